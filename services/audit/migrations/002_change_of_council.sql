-- migrate:up
-- When a plan goes to another council of this exchange, what its recipients were last known to hold must be seen by that one.
-- Only audit writes its tables, so this is audit's own function, for the publisher to call in the transaction of the transfer.
-- Receipts and acts stay with the council in whose time they came.
CREATE FUNCTION audit.change_council(shares uuid[], to_la_code text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = audit, pg_temp
    AS $$ UPDATE audit.newest SET la_code = to_la_code WHERE share_id = ANY (shares) $$;
REVOKE EXECUTE ON FUNCTION audit.change_council(uuid[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.change_council(uuid[], text) TO ehcp_publisher;

-- migrate:down
DROP FUNCTION audit.change_council(uuid[], text);
