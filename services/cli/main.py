"""The `ehcp` command: one module of `commands/` for each sub-command; no rules of its own."""

import typer

from services.cli.commands import (
    breach,
    coverage,
    dead_letters,
    directory,
    doctor,
    down,
    export,
    import_,
    migrate,
    plans,
    policy,
    publish,
    readiness,
    recipient,
    reconcile,
    record,
    run,
    sample,
    send_again,
    sent,
    status,
    subscriber,
    up,
    verify,
    watch,
    who,
)

app = typer.Typer(
    name="ehcp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its frames would show what plans contain
    help="EHC Plan Exchange: gets the newest plan into every agency's own record, and proves it.",
    epilog="Exit codes: 0 done, 1 a check failed or was refused, 2 wrong use, 4 something cannot be reached.",
)
app.command()(up.up)
app.command()(down.down)
app.command()(run.run)
app.command()(migrate.migrate)
app.command()(publish.publish)
app.add_typer(record.app, name="record")
app.command()(plans.plans)
app.command()(plans.plan)
app.command()(plans.gaps)
app.command()(plans.flags)
app.command()(plans.confirmations)
app.command()(export.export)
app.command("import")(import_.import_)
app.command()(readiness.readiness)
app.command()(watch.watch)
app.add_typer(reconcile.app, name="reconcile")
app.add_typer(directory.app, name="directory")
app.add_typer(policy.app, name="policy")
app.command()(status.status)
app.command()(who.who)
app.command()(coverage.coverage)
app.command("send-again")(send_again.send_again)
app.command()(sent.sent)
app.command()(sent.removed)
app.command()(breach.recalls)
app.command()(breach.breach)
app.command()(sample.sample)
app.command("verify")(verify.verify_)
app.add_typer(recipient.app, name="recipient")
app.add_typer(subscriber.app, name="subscriber")
app.add_typer(dead_letters.app, name="dead-letters")
app.command()(doctor.doctor)

if __name__ == "__main__":
    app()
