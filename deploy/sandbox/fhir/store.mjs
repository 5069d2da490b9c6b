/**
 * One trust's record store: a Medplum FhirRepository kept in one SQLite file.
 *
 * Why not Medplum's own MemoryRepository: it forgets everything at a restart, does not roll back a failed transaction
 * Bundle, validates nothing and searches by looking at every resource. Its router, its search matching and its R4
 * validation are used here as they are; only the storage is ours.
 *
 * Invariants
 * - Every version ever stored is a row of `version`; `resource` points at the newest one. Nothing is overwritten.
 * - A write and its rows in `lookup` happen in the same SQLite transaction; `Requests` (requests.mjs) commits it to disk
 *   before any caller is told about it.
 * - A Binary's bytes lie in their own column and never inside JSON, so reading records does not read documents.
 * - Writing exactly what is already there makes no new version: a delivery repeated a hundred times leaves one version.
 */
import { createHash, randomUUID } from 'node:crypto';
import {
  badRequest,
  evalFhirPath,
  globalSchema,
  gone,
  matchesSearchRequest,
  notFound,
  OperationOutcomeError,
  preconditionFailed,
  validateResource,
} from '@medplum/core';
import { FhirRepository, getExtraEntries, MemoryRepository } from '@medplum/fhir-router';

// node:sqlite is stable in behaviour but still says "experimental" on stderr at every start.
const { emitWarning } = process;
process.emitWarning = (warning, ...rest) =>
  String(warning).includes('SQLite is an experimental feature') ? undefined : emitWarning.call(process, warning, ...rest);
const { DatabaseSync } = await import('node:sqlite');

/** Where a raw upload's bytes travel beside the resource, so that they need not pass through base64. */
export const BYTES = Symbol('bytes');

const FORMAT = 1;
const SCHEMA = `
CREATE TABLE IF NOT EXISTS version (
  row INTEGER PRIMARY KEY,
  type TEXT NOT NULL,
  id TEXT NOT NULL,
  number INTEGER NOT NULL,
  updated TEXT NOT NULL,
  deleted INTEGER NOT NULL DEFAULT 0,
  body TEXT NOT NULL,            -- the resource as JSON, without meta.versionId and meta.lastUpdated
  bytes_sha256 BLOB,             -- Binary only
  bytes BLOB,                    -- Binary only; last, so that reading the columns before it does not read it
  UNIQUE (type, id, number)
);
CREATE TABLE IF NOT EXISTS resource (
  type TEXT NOT NULL,
  id TEXT NOT NULL,
  row INTEGER NOT NULL REFERENCES version (row),
  deleted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (type, id)
) WITHOUT ROWID;
-- What searches are answered from: identifiers by value, and whatever belongs to a patient by the patient.
CREATE TABLE IF NOT EXISTS lookup (
  type TEXT NOT NULL,
  parameter TEXT NOT NULL,
  value TEXT NOT NULL,
  id TEXT NOT NULL,
  PRIMARY KEY (type, parameter, value, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lookup_by_resource ON lookup (type, id);
PRAGMA user_version = ${FORMAT};
`;

/** Search parameters answered through `lookup`; all others look at every resource of the type. */
const INDEXED = new Set(['identifier', 'patient', 'subject', '_tag']);

export class SqliteRepository extends FhirRepository {
  #db;
  #statements = new Map();
  #depth = 0;

  /** @param {string} file path of the SQLite file, created when missing */
  constructor(file) {
    super();
    this.#db = new DatabaseSync(file, { enableForeignKeyConstraints: true });
    // EXCLUSIVE: a second server on the same folder must fail at its start, not mix its writes with ours.
    this.#db.exec('PRAGMA page_size = 8192; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;');
    // FULL: a commit is on the disk before the answer is sent, as a receipt for it will be signed.
    this.#db.exec('PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -65536;');
    const { user_version: format } = this.#db.prepare('PRAGMA user_version').get();
    if (format !== 0 && format !== FORMAT) {
      throw new Error(`${file} has format ${format}, this server reads ${FORMAT}: remove it or use the matching server`);
    }
    this.#db.exec(SCHEMA);
  }

  close() {
    this.#db.close();
  }

  begin() {
    this.#db.exec('BEGIN IMMEDIATE');
  }

  commit() {
    this.#db.exec('COMMIT');
  }

  rollback() {
    if (this.#db.isTransaction) {
      this.#db.exec('ROLLBACK');
    }
    this.#depth = 0;
  }

  #sql(text) {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.#db.prepare(text);
      this.#statements.set(text, statement);
    }
    return statement;
  }

  /** Undoes everything that `callback` wrote when it throws. Costs nothing that grows with the number of resources. */
  async withTransaction(callback) {
    const savepoint = `level_${++this.#depth}`;
    this.#db.exec(`SAVEPOINT ${savepoint}`);
    try {
      const result = await callback(this);
      this.#db.exec(`RELEASE ${savepoint}`);
      return result;
    } catch (error) {
      this.#db.exec(`ROLLBACK TO ${savepoint}; RELEASE ${savepoint}`);
      throw error;
    } finally {
      this.#depth--;
    }
  }

  setMode() {
    // There is one database, for reading and writing.
  }

  generateId() {
    return randomUUID();
  }

  async createResource(resource, _options) {
    const id = resource.id ?? this.generateId();
    if (this.#newest(resource.resourceType, id)) {
      throw new OperationOutcomeError(badRequest('Assigned ID is already in use'));
    }
    return this.#write({ ...resource, id, [BYTES]: resource[BYTES] }, undefined);
  }

  async updateResource(resource, options) {
    if (!resource.id) {
      throw new OperationOutcomeError(badRequest('Missing id'));
    }
    const existing = this.#newest(resource.resourceType, resource.id);
    if (options?.ifMatch) {
      if (!existing || existing.deleted) {
        throw new OperationOutcomeError(notFound);
      }
      if (String(existing.number) !== options.ifMatch) {
        throw new OperationOutcomeError(preconditionFailed);
      }
    }
    return this.#write(resource, existing);
  }

  // The patch itself (JSON Patch and FHIRPath Patch) is Medplum's; it reads and writes through this repository.
  async patchResource(...args) {
    return MemoryRepository.prototype.patchResource.apply(this, args);
  }

  async readResource(type, id) {
    return this.#resource(this.#live(type, id));
  }

  async readReference(reference) {
    return MemoryRepository.prototype.readReference.call(this, reference);
  }

  async readReferences(references) {
    return MemoryRepository.prototype.readReferences.call(this, references);
  }

  /** A Binary as bytes: `{ contentType, bytes, resource }`, `resource` without its data. */
  readBinary(id) {
    const found = this.#live('Binary', id);
    const resource = this.#resource(found, false);
    return { contentType: resource.contentType, bytes: this.#bytes(found), resource };
  }

  async readHistory(type, id, options) {
    const rows = this.#sql(
      `SELECT row, type, id, number, updated, deleted, body FROM version WHERE type = ? AND id = ?
       ORDER BY number DESC LIMIT ? OFFSET ?`
    ).all(type, id, options?.limit ?? 1000, options?.offset ?? 0);
    if (!rows.length) {
      throw new OperationOutcomeError(notFound);
    }
    const entry = rows.map((found) => ({
      resource: found.deleted ? undefined : this.#resource(found),
      request: { method: found.deleted ? 'DELETE' : 'PUT', url: `${type}/${id}` },
      response: { status: found.deleted ? '204' : '200', etag: `W/"${found.number}"`, lastModified: found.updated },
    }));
    return { resourceType: 'Bundle', type: 'history', total: entry.length, entry };
  }

  async readVersion(type, id, versionId) {
    const found = this.#sql(
      'SELECT row, type, id, number, updated, deleted, body FROM version WHERE type = ? AND id = ? AND number = ?'
    ).get(type, id, /^\d{1,15}$/.test(versionId) ? Number(versionId) : -1);
    if (!found) {
      throw new OperationOutcomeError(notFound);
    }
    if (found.deleted) {
      throw new OperationOutcomeError(gone);
    }
    return this.#resource(found);
  }

  async search(request) {
    if (!globalSchema.types[request.resourceType] && !request.types) {
      throw new OperationOutcomeError(notFound);
    }
    const matches = [];
    for (const type of request.types ?? [request.resourceType]) {
      matches.push(...this.#matches(type, request));
    }
    for (const rule of [...(request.sortRules ?? [])].reverse()) {
      sortBy(matches, rule);
    }
    const offset = request.offset || 0;
    const count = Math.min(Number.isInteger(request.count) ? request.count : 20, 1000);
    const entry = matches
      .slice(offset, offset + count)
      .map((found) => ({ search: { mode: 'match' }, resource: this.#resource(found) }));
    if ((request.include || request.revInclude) && entry.length) {
      await getExtraEntries(
        this,
        request,
        entry.map((e) => e.resource),
        entry
      );
    }
    return {
      resourceType: 'Bundle',
      type: 'searchset',
      total: matches.length,
      entry: entry.length ? entry : undefined,
    };
  }

  async searchByReference(request, field, references) {
    return MemoryRepository.prototype.searchByReference.call(this, request, field, references);
  }

  async deleteResource(type, id, options) {
    const existing = this.#live(type, id);
    if (options?.ifMatch && String(existing.number) !== options.ifMatch) {
      throw new OperationOutcomeError(preconditionFailed);
    }
    this.#append(type, id, existing.number + 1, true, '{}', null, null);
    this.#sql('DELETE FROM lookup WHERE type = ? AND id = ?').run(type, id);
  }

  async expungeResource(type, id) {
    await this.expungeResources(type, [id]);
  }

  async expungeResources(type, ids) {
    for (const id of ids) {
      this.#sql('DELETE FROM lookup WHERE type = ? AND id = ?').run(type, id);
      this.#sql('DELETE FROM resource WHERE type = ? AND id = ?').run(type, id);
      this.#sql('DELETE FROM version WHERE type = ? AND id = ?').run(type, id);
    }
  }

  #newest(type, id) {
    return this.#sql(
      `SELECT v.row, v.type, v.id, v.number, v.updated, v.deleted, v.body, v.bytes_sha256
       FROM resource r JOIN version v ON v.row = r.row WHERE r.type = ? AND r.id = ?`
    ).get(type, id);
  }

  #live(type, id) {
    const found = this.#newest(type, id);
    if (!found) {
      throw new OperationOutcomeError(notFound);
    }
    if (found.deleted) {
      throw new OperationOutcomeError(gone);
    }
    return found;
  }

  #bytes(found) {
    const { bytes } = this.#sql('SELECT bytes FROM version WHERE row = ?').get(found.row);
    return bytes === null ? Buffer.alloc(0) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #resource(found, withData = true) {
    const resource = found.resource ?? JSON.parse(found.body);
    resource.meta = { ...resource.meta, versionId: String(found.number), lastUpdated: found.updated };
    if (found.type === 'Binary' && withData) {
      const bytes = this.#bytes(found);
      if (bytes.length) {
        resource.data = bytes.toString('base64');
      }
    }
    return resource;
  }

  #write(resource, existing) {
    const { [BYTES]: raw, ...given } = resource;
    const { resourceType: type, id, meta, data, ...rest } = given;
    let bytes = null;
    let digest = null;
    if (type === 'Binary') {
      bytes = raw ?? decode(data ?? '');
      digest = createHash('sha256').update(bytes).digest();
      // Without its data: the validator's pattern for base64 costs more than all the rest of a request.
      validateResource({ resourceType: type, id, ...(meta ? { meta } : {}), ...rest });
    } else {
      validateResource(given);
    }
    if (!/^[A-Za-z0-9\-.]{1,64}$/.test(id)) {
      throw new OperationOutcomeError(badRequest('Invalid id', `${type}.id`));
    }
    const { versionId: _, lastUpdated: __, ...keptMeta } = meta ?? {};
    const kept = { resourceType: type, id, ...(Object.keys(keptMeta).length ? { meta: keptMeta } : {}), ...rest };
    if (type !== 'Binary' && data !== undefined) {
      kept.data = data;
    }
    const body = JSON.stringify(kept);
    const unchanged =
      existing && !existing.deleted && existing.body === body && (!digest || digest.equals(existing.bytes_sha256));
    const number = unchanged ? existing.number : (existing?.number ?? 0) + 1;
    let { updated } = existing ?? {};
    if (!unchanged) {
      updated = this.#append(type, id, number, false, body, digest, bytes);
      this.#index(kept, Boolean(existing));
    }
    const stored = { ...given, meta: { ...keptMeta, versionId: String(number), lastUpdated: updated } };
    if (raw && raw.length) {
      stored.data = raw.toString('base64');
    }
    return stored;
  }

  #append(type, id, number, deleted, body, digest, bytes) {
    const updated = new Date().toISOString();
    const { lastInsertRowid: row } = this.#sql(
      'INSERT INTO version (type, id, number, updated, deleted, body, bytes_sha256, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)'
    ).run(type, id, number, updated, deleted ? 1 : 0, body, digest, bytes);
    this.#sql(
      `INSERT INTO resource (type, id, row, deleted) VALUES (?, ?, ?, ?)
       ON CONFLICT (type, id) DO UPDATE SET row = excluded.row, deleted = excluded.deleted`
    ).run(type, id, row, deleted ? 1 : 0);
    return updated;
  }

  #index(resource, replaces) {
    const { resourceType: type, id } = resource;
    if (replaces) {
      this.#sql('DELETE FROM lookup WHERE type = ? AND id = ?').run(type, id);
    }
    const insert = this.#sql('INSERT OR IGNORE INTO lookup (type, parameter, value, id) VALUES (?, ?, ?, ?)');
    for (const identifier of [resource.identifier, resource.masterIdentifier].flat()) {
      if (typeof identifier?.value === 'string') {
        insert.run(type, 'identifier', identifier.value.toLowerCase(), id);
      }
    }
    for (const tag of resource.meta?.tag ?? []) {
      if (typeof tag?.code === 'string') {
        insert.run(type, '_tag', tag.code.toLowerCase(), id);
      }
    }
    for (const parameter of ['subject', 'patient']) {
      const reference = resource[parameter]?.reference;
      if (typeof reference === 'string') {
        insert.run(type, parameter, reference, id);
        // R4 has `patient` as "the subject, where it is a patient" on most types.
        if (parameter === 'subject' && reference.startsWith('Patient/')) {
          insert.run(type, 'patient', reference, id);
        }
      }
    }
  }

  #matches(type, request) {
    const filters = request.filters ?? [];
    for (const { code } of filters) {
      if (!globalSchema.types[type]?.searchParams?.[code.split(/[.:]/)[0]] || code.includes('.')) {
        // Ignoring an unknown parameter would answer with everybody's records.
        throw new OperationOutcomeError(badRequest(`Search parameter not supported: ${type}?${code.split(/[.:]/)[0]}`));
      }
    }
    const wanted = { ...request, resourceType: type };
    const matches = [];
    for (const found of this.#candidates(type, filters)) {
      found.resource = JSON.parse(found.body);
      const { resource } = found;
      resource.meta = { ...resource.meta, versionId: String(found.number), lastUpdated: found.updated };
      if (matchesSearchRequest(resource, wanted)) {
        matches.push(found);
      }
    }
    return matches;
  }

  /** Rows that can match, in order of first creation: by index where a filter allows it, else all of the type. */
  *#candidates(type, filters) {
    let ids;
    for (const { code, operator, value } of filters) {
      const parts = value.split(',');
      if (operator !== 'eq' || value.includes('\\') || parts.some((part) => !part || part.endsWith('|'))) {
        continue;
      }
      if (code === '_id') {
        ids = parts;
      } else if (INDEXED.has(code)) {
        ids = this.#lookup(type, code, parts);
      }
      if (ids) {
        break;
      }
    }
    const columns = 'v.row, v.type, v.id, v.number, v.updated, v.deleted, v.body';
    if (!ids) {
      yield* this.#sql(
        `SELECT ${columns} FROM resource r JOIN version v ON v.row = r.row
         WHERE r.type = ? AND r.deleted = 0 ORDER BY r.id`
      ).iterate(type);
      return;
    }
    for (const id of [...new Set(ids)].sort()) {
      const found = this.#newest(type, id);
      if (found && !found.deleted) {
        yield found;
      }
    }
  }

  #lookup(type, code, parts) {
    const ids = [];
    const byValue = this.#sql('SELECT id FROM lookup WHERE type = ? AND parameter = ? AND value = ?');
    for (const part of parts) {
      let value;
      if (code === 'identifier' || code === '_tag') {
        value = part.slice(part.indexOf('|') + 1).toLowerCase();
      } else {
        value = part.includes('/') ? part : `Patient/${part}`;
      }
      ids.push(...byValue.all(type, code, value).map((row) => row.id));
    }
    return ids;
  }
}

function decode(base64) {
  if (typeof base64 !== 'string') {
    throw new OperationOutcomeError(badRequest('Invalid JSON type: expected string', 'Binary.data'));
  }
  const bytes = Buffer.from(base64, 'base64'); // skips what is not base64, so compare
  if (bytes.toString('base64') !== base64.replace(/\s/g, '')) {
    throw new OperationOutcomeError(badRequest('Invalid base64Binary format', 'Binary.data'));
  }
  return bytes;
}

function sortBy(matches, { code, descending }) {
  const key = (found) => {
    const expression = globalSchema.types[found.type]?.searchParams?.[code]?.expression;
    return expression ? JSON.stringify(evalFhirPath(expression, found.resource)) : '';
  };
  const keys = new Map(matches.map((found) => [found, key(found)]));
  matches.sort((a, b) => keys.get(a).localeCompare(keys.get(b)) * (descending ? -1 : 1));
}
