-- migrate:up
-- Two case references of a council that differ only in capital letters are one plan. Where two are there already, this fails and
-- names them: a person says whose they are, and an administrator gives one of them another reference.
ALTER TABLE publisher.plan DROP CONSTRAINT plan_la_code_case_reference_key;
CREATE UNIQUE INDEX plan_reference_once ON publisher.plan (la_code, upper(case_reference));
CREATE INDEX custody_reference ON publisher.custody (la_code, upper(case_reference));

-- migrate:down
DROP INDEX publisher.custody_reference;
DROP INDEX publisher.plan_reference_once;
ALTER TABLE publisher.plan ADD UNIQUE (la_code, case_reference);
