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


def python_prose(text):
    """Yield docstrings, comments, messages of errors, and names of tests."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield docstring
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    yield name.replace("_", " ")
            case ast.Raise(exc=ast.Call(args=arguments)):
                for part in (part for argument in arguments for part in ast.walk(argument)):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def prose(path):
    text = path.read_text()
    if path.suffix == ".py":
        return "\n".join(python_prose(text))
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
    paths = [root] if root.is_file() else [*root.rglob("*.py"), *root.rglob("*.md")]
    hits, words = marked(sorted(paths))
    assert words > 100
    assert len(hits) <= 1 + LIMIT * words / 10_000, "\n".join(hits)


def test_marked_words_are_found_in_prose_but_not_in_code(tmp_path):
    module, page = tmp_path / "a.py", tmp_path / "a.md"
    module.write_text(
        '"""Let nobody in."""\nnobody = "nobody"  # whom\nraise E("mend it")\n'
        "def test_a_face(): pass\n"
    )
    page.write_text("Nobody reads `nobody`.\n```\nnobody\n```\n")
    assert marked([module]) == (
        ["a.py: nobody", "a.py: mend", "a.py: face", "a.py: whom"],
        9,
    )
    assert marked([page]) == (["a.md: Nobody"], 3)
