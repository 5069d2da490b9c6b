-- migrate:up
-- What a receipt says is still there. A receipt that names what was removed, or what remains, proves that and nothing more, whatever
-- its status is.
ALTER TABLE audit.receipt ADD remaining uuid[] NOT NULL DEFAULT '{}';
ALTER TABLE audit.former_receipt ADD remaining uuid[] NOT NULL DEFAULT '{}';

-- The number of the first receipt by which this subscriber proves that these versions or notices are gone; null while none does.
-- A subscriber that does not know the two fields yet names neither: its answer to the recall, and a satisfied wish for something
-- else, came after the removal that they were told to begin with. Not bound to the councils of the transaction: a share that went
-- to another council keeps its earlier receipts where they came.
CREATE OR REPLACE FUNCTION audit.proof_of_removal(share uuid, by_subscriber text, asked bigint, things uuid[]) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = audit, pg_temp AS $$
        SELECT min(number) FROM (
            SELECT number FROM audit.receipt r
            WHERE r.share_id = share AND r.subscriber = by_subscriber AND r.seq >= asked AND NOT things && r.remaining
            AND (things <@ r.removed OR (
                r.removed = '{}' AND r.remaining = '{}' AND r.satisfies
                AND (r.status = 'recalled' OR coalesce(r.version_id <> ALL (things), true))
            ))
            UNION ALL
            SELECT number FROM audit.former_receipt r
            WHERE r.share_id = share AND r.subscriber = by_subscriber AND r.seq >= asked AND NOT things && r.remaining
            AND (things <@ r.removed OR (r.removed = '{}' AND r.remaining = '{}' AND r.status = 'recalled'))
        ) proofs $$;

-- migrate:down
CREATE OR REPLACE FUNCTION audit.proof_of_removal(share uuid, by_subscriber text, asked bigint, things uuid[]) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = audit, pg_temp AS $$
        SELECT min(number) FROM (
            SELECT number FROM audit.receipt r
            WHERE r.share_id = share AND r.subscriber = by_subscriber AND r.seq >= asked
            AND (r.status = 'recalled' OR things <@ r.removed OR (r.satisfies AND coalesce(r.version_id <> ALL (things), true)))
            UNION ALL
            SELECT number FROM audit.former_receipt r
            WHERE r.share_id = share AND r.subscriber = by_subscriber AND r.seq >= asked
            AND (r.status = 'recalled' OR things <@ r.removed)
        ) proofs $$;
ALTER TABLE audit.former_receipt DROP remaining;
ALTER TABLE audit.receipt DROP remaining;
