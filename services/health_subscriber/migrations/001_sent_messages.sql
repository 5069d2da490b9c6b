-- migrate:up
-- What was sent where no record can be asked: the memory that FHIR has in the record itself. No text and nobody's name is here.
CREATE SCHEMA health;

-- One row for each document sent to an HL7 v2 receiver, made before it is sent; accepted says whether its answer came. A
-- document's number comes from (share, seq).
CREATE TABLE health.hl7v2_document (
    system text NOT NULL,
    share_id uuid NOT NULL,
    seq bigint NOT NULL,
    version_id uuid NOT NULL,
    accepted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (system, share_id, seq)
);

-- One row for each MESH message, made before it is sent. message_id is MESH's own, null until it has accepted the message;
-- look_at is when to ask MESH about it next, null when nothing more can be learnt. replaces is what was held before it was first
-- sent, so that it says the same when it is sent again; proofs are the hashes that a receipt must give back, parted by
-- spaces.
CREATE TABLE health.mesh_message (
    local_id uuid PRIMARY KEY,
    system text NOT NULL,
    mailbox text NOT NULL,
    share_id uuid NOT NULL,
    seq bigint NOT NULL,
    about text NOT NULL CHECK (about IN ('content', 'withdrawal', 'recall')),
    version_id uuid,
    replaces uuid,
    sha256 text,
    proofs text NOT NULL,
    state text NOT NULL CHECK (state IN ('sending', 'sent', 'collected', 'done', 'refused', 'failed')),
    message_id text,
    record text,
    reason text,
    known_at timestamptz,
    look_at timestamptz
);
CREATE INDEX mesh_message_look ON health.mesh_message (system, look_at) WHERE look_at IS NOT NULL;

GRANT USAGE ON SCHEMA health TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA health TO :role;

-- migrate:down
DROP SCHEMA health CASCADE;
