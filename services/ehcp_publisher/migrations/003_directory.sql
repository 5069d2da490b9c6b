-- migrate:up
-- The directory and the sharing policies change while the exchange runs. Every change has a number, so that each publisher
-- process reads what is new to it; whoever decides shares holds the directory shared until it has committed, so that a change
-- either comes before the decision or finds the plan to decide it again.
ALTER TABLE publisher.recipient
    -- False for an organisation that a plan names and nobody registered: it has a share, and is not in the directory.
    ADD registered boolean NOT NULL DEFAULT false,
    ADD contact text,
    ADD public_key jsonb,
    ADD areas text[] NOT NULL DEFAULT '{}',
    ADD successors text[] NOT NULL DEFAULT '{}',
    ADD revision bigint NOT NULL DEFAULT 0,
    ADD hash text,
    -- Of its entry in the registry file when that was last taken in: an unchanged file does not undo a later change.
    ADD file_hash text,
    ADD CHECK (NOT registered OR plan_id IS NULL);
CREATE INDEX recipient_changed ON publisher.recipient (revision) WHERE registered;
CREATE INDEX recipient_named ON publisher.recipient (name, recipient_id) WHERE registered;
ALTER TABLE publisher.recipient_code
    ADD position integer NOT NULL DEFAULT 0,
    ADD CHECK (valid_until >= valid_from);
CREATE INDEX recipient_code_value ON publisher.recipient_code (value);

-- Every policy that ever was, since shares were made under it; the newest of a council holds.
DROP TABLE publisher.policy;
CREATE TABLE publisher.sharing_policy (
    la_code text NOT NULL REFERENCES publisher.council,
    revision bigint NOT NULL,
    content jsonb NOT NULL,
    sha256 text NOT NULL,
    applied_by text NOT NULL,
    from_file boolean NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (la_code, revision)
);
CREATE TABLE publisher.directory_revision (revision bigint NOT NULL);
INSERT INTO publisher.directory_revision VALUES (0);
CREATE UNIQUE INDEX directory_revision_one ON publisher.directory_revision ((true));

CREATE FUNCTION publisher.hold_directory() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('ehcp.directory'));
    RETURN (SELECT revision FROM publisher.directory_revision);
END $$;
CREATE FUNCTION publisher.change_directory() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ehcp.directory'));
    RETURN (SELECT revision FROM publisher.directory_revision);
END $$;
GRANT SELECT, INSERT ON publisher.sharing_policy TO :role;
GRANT SELECT, UPDATE ON publisher.directory_revision TO :role;

-- migrate:down
SELECT 1 / 0; -- policies that shares were made under cannot be taken back
