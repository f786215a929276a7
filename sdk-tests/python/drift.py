"""Says what the newest SDKs changed for the routes that are served: `python drift.py TYPESCRIPT PYTHON`, the folder
of the newest package and the interpreter of an environment with the newest package. Ends with 1 if the server
would have to change."""

import pathlib
import subprocess
import sys
import tomllib

import declarations

PINNED = declarations.TYPESCRIPT / "node_modules/@anthropic-ai/sdk"
VERSION = "import anthropic; print(anthropic.__version__)"


def show(title, lines):
    print(f"\n{title}: {'nothing' if not lines else len(lines)}")
    for line in sorted(lines):
        print(f"  {line}")


def version(python):
    return subprocess.run([python, "-c", VERSION], check=True, capture_output=True, text=True).stdout.strip()


def changed(one, other):
    """The lines of what `other` has anew, in the words of somebody who knows `one`."""
    words = {"the SDK": "the newest", "only we": "only the pinned", "of ours": "of the pinned", "by us": "by the pinned"}
    words |= {"for us": "for the pinned"}
    lines = []
    for place, what in declarations.between(other, one):
        for word, better in words.items():
            what = what.replace(word, better)
        lines.append(f"{place}: {what}")
    return lines


def main(typescript, python):
    newest, pinned = declarations.typescript(pathlib.Path(typescript).resolve()), declarations.typescript(PINNED)
    now, then = version(python), version(sys.executable)
    show("Routes that the newest TypeScript SDK adds", set(newest["routes"]) - set(pinned["routes"]))
    show("Routes that it drops", set(pinned["routes"]) - set(newest["routes"]))
    show("Types of served routes that it changes", changed(pinned, newest))
    python_types = declarations.python(sys.executable), declarations.python(python)
    show(f"Types that Python {now} changes from {then}", changed(*python_types))
    reviewed = tomllib.loads((declarations.HERE / "differences.toml").read_text())["difference"]
    meant = {(one["at"], one["what"]) for one in reviewed}
    found = declarations.differing(newest, declarations.ours())
    show("Differences from this server that nobody reviewed", {f"{at}: {what}" for at, what in found - meant})
    show("Reviewed differences that are gone", {f"{at}: {what}" for at, what in meant - found})
    return 1 if found != meant else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
