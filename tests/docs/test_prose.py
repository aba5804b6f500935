"""Code, documentation and names of tests are written in plain English; see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ["tcaptcha_middleware", "README.md", "docs", "examples", "tests", "benchmarks", "fuzz"]
LIMIT = 15
"""Marked words in 10,000; well-known packages have 8 to 33."""

# Words that make readers stop, and what a plain sentence has instead.
MARKED = {
    "if, when": r"where (?:it|there|that|nothing|no|none|they|each|an?|the)",
    "not a, without": r"(?:is|are|was|be|has|have) (?:none|no (?!longer|need|more)\w+)",
    "no one, anyone, all, any": r"nobody|everybody|whoever|whatever|whom",
    "so, or a new sentence": r"so that|lest",
    "fix, report, return, say": r"mend\w*|told|tells? (?:of|whether|what|why|how|who)",
    "is, applies": r"stands?|stood",
    "otherwise, too, also": r"or else|had better|all the same|likewise",
    "its own, or nothing": r"of (?:its|their|your|our|one's) own",
    "again, new, at most, until": r"anew|once more|at the (?:most|least)|lately|till",
    "they": r"he|his|him|himself",
    "adapter, sync, flow, bypass, test": r"faces?|colours?|the walk|walks? around|held against",
}
PATTERN = re.compile(rf"\b(?:{'|'.join(MARKED.values())})\b", re.IGNORECASE)


# What users read is often a constant: a label, a message, a reason.
SENTENCE = re.compile(r"[A-Z][^\n]* [^\n]*[.?!…]")
SCRIPT = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)


def sentences(tree):
    """Yield the nodes that may be docstrings, texts of errors, or other sentences."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=docstring):
                yield docstring
            case ast.Raise(exc=ast.Call(args=arguments)):
                yield from (part for argument in arguments for part in ast.walk(argument))
            case ast.Constant(value=str(constant)) if SENTENCE.fullmatch(constant):
                yield node


def python_prose(text):
    """Yield comments, names of tests, and sentences."""
    tree = ast.parse(text)
    for node in dict.fromkeys(sentences(tree)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name.replace("_", " ") * node.name.startswith("test_")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def javascript_prose(text):
    """Yield comments and sentences."""
    yield from re.findall(r"/\*.*?\*/|(?<!:)//[^\n]*", text, re.DOTALL)
    strings = re.findall(r"""(["'`])((?:(?!\1).)*)\1""", text)
    yield from (string for _, string in strings if SENTENCE.fullmatch(string))


def html_prose(text):
    """Yield what is shown, and the prose of scripts."""
    yield re.sub(r"<[^>]*>|<!--|-->|\$\w+", " ", SCRIPT.sub("", text))
    for _, script in SCRIPT.findall(text):
        yield from javascript_prose(script)


READERS = {".py": python_prose, ".js": javascript_prose, ".html": html_prose}


def prose(path):
    text = path.read_text()
    if path.suffix in READERS:
        return "\n".join(READERS[path.suffix](text))
    return re.sub(r"^```.*?^```|https?://\S+", "", text, flags=re.DOTALL | re.MULTILINE)


def marked(paths):
    """Return the marked words with their files, and the number of words."""
    hits, words = [], 0
    for path in paths:
        text = re.sub(r"`[^`\n]*`", "X", prose(path))
        words += len(re.findall(r"[\w']+", text))
        hits += [f"{path.name}: {hit[0]}" for hit in PATTERN.finditer(text)]
    return hits, words


@pytest.mark.parametrize("place", PLACES)
def test_prose_is_plain(place):
    root = ROOT / place
    kinds = (".md", *READERS)
    paths = [root] if root.is_file() else [p for p in root.rglob("*") if p.suffix in kinds]
    hits, words = marked(sorted(paths))
    assert words > 100
    assert len(hits) <= 1 + LIMIT * words / 10_000, "\n".join(hits)


def test_marked_words_are_found_in_prose_but_not_in_code(tmp_path):
    module, page = tmp_path / "a.py", tmp_path / "a.md"
    module.write_text(
        '"""Let nobody in."""\nnobody = "nobody"  # whom\nraise E("mend it")\n'
        'TEXT = "Nobody is in."\n'
        "def test_a_face(): pass\n"
    )
    page.write_text("Nobody reads `nobody`.\n```\nnobody\n```\n")
    script, shown = tmp_path / "a.js", tmp_path / "a.html"
    script.write_text("// whom\nconst nobody = ['lest', 'Nobody reads it.'];")
    shown.write_text("<p class='nobody'>Whoever<script>lest() // till</script>")
    assert marked([module]) == (
        ["a.py: nobody", "a.py: mend", "a.py: Nobody", "a.py: face", "a.py: whom"],
        12,
    )
    assert marked([page]) == (["a.md: Nobody"], 3)
    assert marked([script]) == (["a.js: whom", "a.js: Nobody"], 4)
    assert marked([shown]) == (["a.html: Whoever", "a.html: till"], 2)
