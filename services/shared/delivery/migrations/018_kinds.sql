-- migrate:up
-- A recipient's name: its code where it is the organisation that the scheme numbers, else with its kind before it, since several
-- services may share a code. The same rule as schemas.identifiers.recipient_name, given an instruction's recipient.
CREATE FUNCTION delivery.recipient_name(recipient jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN CASE recipient->>'scheme'
        WHEN 'recipient' THEN true
        WHEN 'la' THEN recipient->>'kind' = 'social_care'
        WHEN 'ods' THEN recipient->>'kind' IN ('trust', 'commissioning_body', 'gp')
        ELSE recipient->>'kind' IN ('school', 'college', 'early_years', 'alternative_provision', 'early_help')
    END THEN '' ELSE (recipient->>'kind') || '/' END || (recipient->>'scheme') || ':' || (recipient->>'value')
$$;

-- What lies in an inbox under a code that others share gets its own address. It stays sealed as it is, under the key of before.
ALTER TABLE delivery.inbox ADD sealed_for text;
UPDATE delivery.inbox i SET sealed_for = i.recipient, recipient = delivery.recipient_name(d.instruction->'recipient')
    FROM delivery.delivery d
    WHERE d.share_id = i.share_id
    AND delivery.recipient_name(d.instruction->'recipient') = (d.instruction->'recipient'->>'kind') || '/' || i.recipient;
-- Whoever was paused together stays paused, each for itself.
INSERT INTO delivery.pause (recipient, reason, paused_by, paused_at)
    SELECT DISTINCT delivery.recipient_name(d.instruction->'recipient'), p.reason, p.paused_by, p.paused_at
    FROM delivery.pause p JOIN delivery.delivery d
    ON delivery.recipient_name(d.instruction->'recipient') = (d.instruction->'recipient'->>'kind') || '/' || p.recipient
    ON CONFLICT DO NOTHING;

-- Record systems that a share was held in before another one served its recipient: what is recalled is removed there too.
ALTER TABLE delivery.delivery ADD former_lanes text[] NOT NULL DEFAULT '{}';

-- migrate:down
ALTER TABLE delivery.delivery DROP former_lanes;
UPDATE delivery.inbox SET recipient = sealed_for WHERE sealed_for IS NOT NULL;
ALTER TABLE delivery.inbox DROP sealed_for;
DROP FUNCTION delivery.recipient_name(jsonb);
