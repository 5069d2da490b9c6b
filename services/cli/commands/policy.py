"""`ehcp policy`: a council's sharing policy, judged, explained and counted before it applies."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from schemas.policy import PolicyRule, SharingPolicy, read_policy
from schemas.refusals import sentences
from services.cli.commands.import_ import london_today
from services.cli.commands.who import is_plan_id
from services.cli.exchange import Exchange, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import Exit, RefusedError, err, out, plain_errors, print_json, run

app = typer.Typer(no_args_is_help=True, help="Whom a council shares plans with beyond the law.")
PolicyFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A policy: YAML or JSON.")]
COUNTS = {"shares_added": "begin", "shares_withdrawn": "end", "shares_changed": "change to other sections"}


@app.command()
def check(file: PolicyFile, as_json: AsJson = False) -> None:
    """Judge a policy file without the exchange. Whether the organisations that it names exist, only `apply` can say."""
    with plain_errors():
        policy, problems = judged(file)
    off = policy.off(london_today()) if policy else None
    if as_json:
        rules = [rule.rule for rule in policy.rules] if policy else []
        print_json({"file": str(file), "valid": policy is not None, "problems": problems, "rules": rules, "off": off})
    elif policy:
        out.print(f"{file}: {len(policy.rules)} rules of council {policy.la_code}, no error.", markup=False, soft_wrap=True)
        for rule in policy.rules:
            out.print(f"  {sentence_of(rule)}", markup=False, soft_wrap=True)
    else:
        for problem in problems:
            err.print(f"{file}: {problem}", style="red", markup=False, soft_wrap=True)
    if off and not as_json:
        err.print(f"Every rule that shares is off: {off}.", style="yellow", markup=False)
    if policy is None:
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command()
def show(
    council: Annotated[str, typer.Argument(help="LA code.")], home: Home = DEFAULT_HOME, as_json: AsJson = False
) -> None:  # fmt: skip
    """The policy of a council that holds, and who applied it when."""
    shown = run(policy_of(home, council))
    if as_json:
        print_json(shown)
        return
    when = shown["applied_at"][:19].replace("T", " ")
    out.print(f"Applied {when} UTC by {shown['applied_by']}.", markup=False)
    out.print(f"Approval: {SharingPolicy.model_validate(shown['policy']).approval or 'none'}", markup=False, soft_wrap=True)
    for rule in SharingPolicy.model_validate(shown["policy"]).rules:
        out.print(f"  {sentence_of(rule)}", markup=False, soft_wrap=True)
    if shown["off"]:
        err.print(f"Every rule that shares is off: {shown['off']}.", style="yellow", markup=False)


@app.command()
def apply(file: PolicyFile, home: Home = DEFAULT_HOME, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Apply a policy: every plan of its council is decided again. With --dry-run, say how many shares would begin and end."""
    result = run(sent(file, home, dry_run=dry_run))
    if as_json:
        print_json(result)
        return
    if result["result"] == "unchanged":
        out.print("This policy holds already: nothing was changed.")
    elif result["result"] == "applied":
        out.print(f"Applied. {result['plans_to_decide']} plans are decided again now.")
    else:
        counted = ", ".join(f"{result[name]} {what}" for name, what in COUNTS.items())
        out.print(f"Of {result['plans']} plans' shares {counted}. Nothing was changed.")
    if result["off"]:
        err.print(f"Every rule that shares is off: {result['off']}.", style="yellow", markup=False)


@app.command()
def explain(
    plan: Annotated[str, typer.Argument(help="Plan id, or the council's case reference.")],
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A draft, instead of the policy that holds.")
    ] = None,
    on: Annotated[str | None, typer.Option(help="Another day than today: YYYY-MM-DD.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """For every rule of the policy whether it applies to the plan, why not, and to whom it leads. Changes nothing."""
    explained = run(explanation(plan, file, on, home))
    if as_json:
        print_json(explained)
        return
    for each in explained:
        show_explained(each)


async def policy_of(home: Path, council: str) -> Row:
    async with Exchange(Reach.of(home)) as exchange:
        return await exchange.policy(council)


async def sent(file: Path, home: Path, *, dry_run: bool) -> Row:
    policy = needed(file)
    async with Exchange(Reach.of(home)) as exchange:
        return await exchange.put_policy(policy.la_code, as_sent(policy), dry_run=dry_run)


async def explanation(plan: str, file: Path | None, on: str | None, home: Path) -> list[Row]:
    draft = needed(file) if file else None
    async with Exchange(Reach.of(home)) as exchange:
        by_id = is_plan_id(plan)
        found = [await exchange.plan(plan)] if by_id else [row async for row in exchange.plans(case_reference=plan)]
        if not found:
            raise RefusedError(f"No plan of your councils has the case reference {plan}.")
        asked: Row = {"on": on} if on else {}
        if draft:
            asked["policy"] = draft.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            if wrong := [row["la_code"] for row in found if row["la_code"] != draft.la_code]:
                raise UsageError(f"{file} is a policy of {draft.la_code}; the plan is one of {wrong[0]}.")
        return [
            await exchange.explain_policy(row["la_code"], asked | {"plan_id": row["plan_id"]})
            | {"case_reference": row["case_reference"]}
            for row in found
        ]


def judged(file: Path) -> tuple[SharingPolicy | None, list[str]]:
    """The policy, or everything that is wrong with it."""
    try:
        return read_policy(file.read_bytes()), []
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        return None, sentences(error)
    except ValueError as error:
        return None, [str(error)]


def needed(file: Path) -> SharingPolicy:
    policy, problems = judged(file)
    if policy is None:
        raise RefusedError(f"{file}: {'; '.join(problems)}")
    return policy


def as_sent(policy: SharingPolicy) -> bytes:
    return policy.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def sentence_of(rule: PolicyRule) -> str:
    """One rule in words."""
    to = rule.share_with
    if to.involved:
        narrower = [f"in the role {' or '.join(to.involved.roles)}"] if to.involved.roles else []
        narrower += [f"in section {' or '.join(to.involved.sections)}"] if to.involved.sections else []
        whom = " ".join([f"every involved {' or '.join(to.involved.kinds)}", *narrower])
    elif to.organisation:
        whom = f"{to.organisation} ({to.organisation.kind})"
    else:
        assert to.of_council is not None
        whom = f"the {to.of_council.kind} of the council: {to.of_council.council}".replace("_", " ")
    what = "never" if rule.exclude else f"section {', '.join(rule.sections)}" if rule.sections else "the whole plan"
    when = [name.replace("_", " ") for name, value in rule.when if value is not None]
    dates = " ".join(f"{word} {day}" for word, day in (("from", rule.from_), ("until", rule.until)) if day)
    conditions = f", when {' and '.join(when)} hold" if when else ""
    return f"{rule.rule}: {what} to {whom}{conditions}{' (' + dates + ')' if dates else ''}"


def show_explained(answer: Row) -> None:
    which = "a draft" if answer["draft"] else "the policy that holds"
    out.print(f"{answer['case_reference']} on {answer['on']}, by {which}", style="bold", markup=False)
    if answer["off"]:
        out.print(f"Every rule that shares is off: {answer['off']}.", style="yellow", markup=False, soft_wrap=True)
    for rule in answer["rules"]:
        said = "applies" if rule["recipients"] else "applies, and nobody of the plan fits"
        if not rule["applies"]:
            said = f"does not apply: {'; '.join(rule['why_not'])}"
        out.print(f"{rule['rule']} {said}", markup=False, soft_wrap=True)
        for each in rule["recipients"]:
            name = f"{each['name']} ({each['code']})" if each["name"] else each["code"]
            out.print(f"  {name}: {each['why']}", markup=False, soft_wrap=True)
    if not answer["shares"]:
        out.print("Nobody gets the plan by policy.")
    for share in answer["shares"]:
        what = f"section {', '.join(share['sections'])}" if share["sections"] else "the whole plan"
        by_law = "; the law gives it the whole plan anyway" if share.get("by_law") else ""
        until = f" until {share['until']}" if share["until"] else ""
        out.print(
            f"→ {share['recipient']} ({share['code']}) gets {what}{until} by {', '.join(share['rules'])}{by_law}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
