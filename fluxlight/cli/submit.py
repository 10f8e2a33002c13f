"""``fluxlight submit``: a folder of clips to the challenge's zip, or what is wrong with one."""

from __future__ import annotations

import argparse
import sys

from fluxlight.cli.arguments import Arguments


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight submit",
        description="Make the challenge's zip (a mono wav of 10 s at 44.1 kHz a prompt, named by its id) or check one.",
        epilog="Example: fluxlight submit clips --prompts prompts.json --out submission.zip",
    )
    add = p.add_argument
    add("folder", nargs="?", help="folder of <id>.wav files, as `fluxlight generate` writes it")
    add("--prompts", help="which ids there must be: what `fluxlight generate --prompts` takes")
    add("--out", default="submission.zip", help="the zip (submission.zip)")
    add("--check", metavar="ZIP", help="check this zip and write nothing; without --prompts its ids are only counted")
    return p


def main(args: list[str]) -> int:
    """Run the verb; 1 when clips or zip have problems, which are printed one a line."""
    p = parser()
    given = p.parse_args(args)
    if bool(given.folder) == bool(given.check):
        p.error("give a folder of clips, or --check ZIP")
    if given.folder and not given.prompts:
        p.error("--prompts is needed: it says which ids there must be")
    from fluxlight.challenge.submission import BadSubmission, check_zip, write_submission
    from fluxlight.prompts import read_prompts

    ids = [prompt.id for prompt in read_prompts(given.prompts)] if given.prompts else None
    try:
        if given.check:
            if problems := check_zip(given.check, ids):
                raise BadSubmission(given.check, problems)
            print(f"{given.check} is a valid submission" + ("" if ids is None else f" of {len(ids)} clips"))
        else:
            write_submission(given.folder, ids or [], given.out)
            print(f"{len(ids or [])} clips -> {given.out}")
    except BadSubmission as error:
        for problem in error.problems:
            # a name in a zip may hold anything, terminal codes too
            print(problem)
        print(f"fluxlight submit: {len(error.problems)} problems, see above", file=sys.stderr)
        return 1
    return 0
