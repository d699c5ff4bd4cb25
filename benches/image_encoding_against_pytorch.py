"""Encoding of images in aehost against PyTorch: the same tower of SigLIP-base's size with random weights (12 layers of 768,
patches of 16 pixels, views of 224), in float32, on the same pictures and threads, in alternating rounds. A table of medians in
Markdown.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 torchvision==0.26.0 transformers==4.57.6 pillow==12.0.0
    venv/bin/python benches/image_encoding_against_pytorch.py target/release/aehost [--threads 2] [--batch 8] [--rounds 5]

Both go from patches to rows of the language model's stream, tower and projection; the language model itself is tiny. PyTorch's
side is transformers' Idefics3, with the attention that it takes by itself (sdpa), and batches of all pictures. Its rows are compared
with ours by way of the logits in the test `vision`, not here. Ratios above 1 mean that aehost is faster. Needs cores that nothing
else uses.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDE, PATCH, BLOCK = 224, 16, 2


def made(folder, batch):
    """A model and pictures."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests/fixtures/vision"))
    import make
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor

    torch.manual_seed(0)
    tokenizer = make.tokenizer()
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=BLOCK,
        pad_token_id=tokenizer.pad_token_id,
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 576,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 4096,
        },
    )
    model = Idefics3ForConditionalGeneration(config).eval()
    processor = Idefics3ImageProcessor(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    pictures = []
    for number in range(batch):
        path = Path(folder) / f"picture-{number}.png"
        make.picture(str(number), 320 + 8 * number, 240).save(path)
        pictures.append(path)
    return pictures


def ours(program, folder, pictures, threads):
    words = [program, "bench", "--plugins", "plugins", "--model", folder, "--reference", "float32", "--threads", threads]
    words += ["--prompt-tokens", 8, "--output-tokens", 1, "--repeat", 3, "--json"]
    for picture in pictures:
        words += ["--image", picture]
    done = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True)
    images = json.loads(done.stdout)["images"]
    return {"encode": images["encode_ms"]["median"], "prepare": images["prepare_ms"]["median"]}


def theirs(folder, pictures, threads):
    words = [sys.executable, __file__, "--side", json.dumps([str(folder), [str(p) for p in pictures], threads])]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def side(folder, pictures, threads):
    import torch
    from PIL import Image
    from transformers import Idefics3ForConditionalGeneration, Idefics3ImageProcessor

    torch.set_num_threads(threads)
    model = Idefics3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = Idefics3ImageProcessor.from_pretrained(folder)
    images = [Image.open(path) for path in pictures]
    [image.load() for image in images]
    prepare, encode = [], []
    for _ in range(4):
        start = time.perf_counter()
        pixels = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
        prepare.append(time.perf_counter() - start)
        with torch.no_grad():
            start = time.perf_counter()
            rows = model.model.get_image_features(pixels)
            encode.append(time.perf_counter() - start)
    assert rows.shape[0] == len(images), rows.shape
    # The first of each maps memory.
    print(json.dumps({"encode": 1e3 * statistics.median(encode[1:]), "prepare": 1e3 * statistics.median(prepare[1:])}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return side(*json.loads(arguments.side))
    if not arguments.program:
        parser.error("name the aehost program")
    with tempfile.TemporaryDirectory() as folder:
        pictures = made(folder, arguments.batch)
        rounds = []
        for number in range(arguments.rounds):
            mine = ours(arguments.program, folder, pictures, arguments.threads)
            other = theirs(folder, pictures, arguments.threads)
            rounds.append((mine, other))
            print(f"round {number + 1}: {mine} {other}", file=sys.stderr)
    print(f"| {arguments.batch} pictures, {arguments.threads} threads | aehost, ms | PyTorch, ms | ratio |")
    print("| --- | --- | --- | --- |")
    for name in ["encode", "prepare"]:
        mine, other = (statistics.median(side[name] for side in sides) for sides in zip(*rounds))
        ratio = statistics.median(theirs[name] / ours[name] for ours, theirs in rounds)
        print(f"| {name} | {mine:.1f} | {other:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
