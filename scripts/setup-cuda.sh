#!/usr/bin/env bash
# Makes a CUDA 13.0 toolkit of Python wheels, for building aehost with `--features cuda` where none is installed; no GPU is
# needed for that. To be sourced, as it sets the variables by which the build finds the toolkit:
#
#     source scripts/setup-cuda.sh [FOLDER]      # by default ~/.cache/aehost/cuda-13.0, about 1.2 GB
#     cargo build --release --package aehost --features cuda
#
# CUDA_COMPUTE_CAP chooses the GPUs that kernels are compiled for, 90 (Hopper) unless it is set. What is built needs NVIDIA's
# driver to run, and the libraries of the toolkit: LD_LIBRARY_PATH=$CUDA_HOME/lib.

aehost_cuda_folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/aehost/cuda-13.0}

aehost_cuda_install() (
    set -euo pipefail
    part=$1.part
    rm -rf "$part"
    mkdir -p "$part/wheels"
    wheels=(nvidia-cuda-{nvcc,crt,runtime,cccl,nvrtc}==13.0.\* nvidia-nvvm==13.0.\* nvidia-cublas==13.0.\* nvidia-curand==10.4.0.\*)
    python3 -m pip download --quiet --no-deps --dest "$part/wheels" "${wheels[@]}"
    # A wheel is a zip archive; Python reads it where `unzip` is not installed.
    for wheel in "$part"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$part"; done
    rm -r "$part/wheels"
    cd "$part/nvidia/cu13"
    chmod +x bin/* nvvm/bin/*
    # The linker looks for names without a version.
    for library in lib/*.so.*; do
        name=${library%%.so.*}.so
        [ -e "$name" ] || ln -s "$(basename "$library")" "$name"
    done
    ln -s lib lib64
    # The driver's library comes with a GPU's driver: to link without it, one that has its names and does nothing.
    mkdir lib/stubs
    grep -ohE '\bcu[A-Z][A-Za-z0-9]*(_v[0-9]+)?\b' include/cuda.h | sort -u |
        sed 's/.*/void &(void) {}/' | cc -shared -fPIC -x c -Wl,-soname,libcuda.so.1 -o lib/stubs/libcuda.so -
    mv "$part" "$1"
)

if [ ! -d "$aehost_cuda_folder" ] && ! aehost_cuda_install "$aehost_cuda_folder"; then
    echo "setup-cuda.sh: no toolkit was made; the reason is above. It needs Python 3 with pip, a C compiler, and 1.2 GB" >&2
    return 1 2>/dev/null || exit 1
fi
export CUDA_HOME=$aehost_cuda_folder/nvidia/cu13
export CUDA_PATH=$CUDA_HOME CUDA_ROOT=$CUDA_HOME CUDA_TOOLKIT_ROOT_DIR=$CUDA_HOME
export PATH=$CUDA_HOME/bin:$PATH LIBRARY_PATH=$CUDA_HOME/lib/stubs:$CUDA_HOME/lib${LIBRARY_PATH:+:$LIBRARY_PATH}
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
unset aehost_cuda_folder
unset -f aehost_cuda_install
