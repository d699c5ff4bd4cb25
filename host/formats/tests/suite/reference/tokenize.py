"""Makes smollm2-tokens.json and gemma-3-tokens.json: token ids of tricky texts as llama.cpp gives them, for ../models.rs.

    pip install xllamacpp==2026.10.11549
    python3 tokenize.py path/to/smollm2-135m-instruct.gguf > smollm2-tokens.json
    python3 tokenize.py path/to/gemma-3-270m.gguf > gemma-3-tokens.json

No beginning-of-text token is added; special tokens spelled out in the text are recognised.
"""

import json
import sys
import urllib.request

import xllamacpp

TEXTS = [
    "Hello, world!",
    "hello",
    " hello",
    "  hello",
    "   leading and   inner    runs  ",
    "trailing space ",
    "\ttab\t\ttabs",
    "line\nline\n\nparagraph\n\n\nmore",
    "\n",
    "\n \n  \n",
    " ",
    "        ",
    "windows\r\nline\r\n\r\nends",
    "I'm you're he's we'll they'd I've can't",
    "I'M YOU'RE HE'S WE'LL THEY'D I'VE CAN'T",
    "it’s a “curly” quote — with dashes – and… ellipsis",
    "1", "12", "123", "1234567890", "3.14159", "1,000,000.50", "2024-02-29T23:59:59Z", "v1.2.3-rc4", "a1b2c3", "x²+y³=½",
    "٣٤٥ १२३ 五六七",
    "def f(x):\n    return x**2  # square\n",
    "for (int i = 0; i < n; ++i) {\n\t\ta[i] += b[i] << 2;\n}",
    "<div class=\"a b\">&nbsp;</div>",
    "https://example.org/a/b?c=d&e=f#g",
    "SELECT * FROM t WHERE a >= 'b' -- c",
    "{\"key\": [1, 2.5, null, true]}",
    "naïve café Zürich Ångström señor",
    "e\u0301 composed and é precomposed",
    "Привет, мир! Как дела?",
    "你好，世界！今天天气很好。",
    "こんにちは世界",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "שלום עולם",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया",
    "😀😃😄 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "a\u00a0b\u2003c\u200bd\ufeffe\u3000f",
    "null\u0000byte and bell\u0007",
    "CamelCaseIdentifier snake_case_identifier kebab-case SCREAMING_CASE",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "!!!???...,,,;;;:::---___***///\\\\\\",
    "$100 €200 £300 ¥400 50% #1 @user",
    "\\frac{a}{b} \\sum_{i=0}^{n} x_i",
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "a<|im_end|>b <|im_end|> c",
    "<|im_start |> <|not_special|> <|",
    "<repo_name>x<file_sep>y<jupyter_code>",
    "𝒜𝓫𝒸 𝟙𝟚𝟛 ℌ ﬁ Ⅷ ①",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "The quick brown fox jumps over the lazy dog. THE QUICK BROWN FOX!",
    "Q: What is 2+2?\nA: 4\n\nQ: What is 12*12?\nA: 144",
]


def main(model):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 64
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)

    def post(path, body):
        request = urllib.request.Request(
            server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request))

    rows = []
    for text in TEXTS:
        ids = post("/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]
        rows.append(json.dumps({"text": text, "ids": ids}))
    print("[\n" + ",\n".join(rows) + "\n]")


if __name__ == "__main__":
    main(sys.argv[1])
