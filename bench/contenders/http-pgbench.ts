import { randomBytes } from 'node:crypto'
import { pgbench } from '../core/pgbench.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { query } from '../core/server.ts'
import type { HttpLoad } from './http.ts'

/** Not more clients than give the most: each is a backend of its own. */
const mostClients = 16

/** The same rows without a program: a transaction for each request, from C. */
export const floor: Contender<HttpLoad> = {
  name: 'pgbench, a transaction each',
  async open({ server, directory }) {
    const database = 'http_pgbench'
    const databaseUrl = await server.createOurs(database)
    // It makes the queues.
    await (await startAccepted('worker', directory, { DATABASE_URL: databaseUrl })).stop()
    const [columns] = await query<{ today: string }>(
      databaseUrl,
      "select substr(replace(accepted.uuid_floor(now())::text, '-', ''), 1, 12) as today",
    )
    return {
      async measure({ connections, seconds }) {
        const run = randomBytes(3).toString('hex')
        const script = transaction(columns?.today as string, run)
        const clients = Math.min(connections, mostClients)
        return { perSecond: await pgbench(directory, databaseUrl, { script, clients, end: { seconds } }) }
      },
      close: () => server.dropDatabase(database),
    }
  },
}

/** The four rows of a request; ids are of today, and nobody else's. */
const transaction = (today: string, run: string) => `
\\set n random(0, 281474976710655)
begin;
insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
  values ('ann', '${run}-' || :n::bigint, sha256(int8send(:n::bigint)), ('${today}7${run.slice(0, 3)}8${run.slice(3)}' || lpad(to_hex(:n::bigint), 12, '0'))::uuid)
  on conflict on constraint idempotency_key_pkey do nothing;
insert into note (id, text)
  values (('${today}7${run.slice(0, 3)}8${run.slice(3)}' || lpad(to_hex(:n::bigint), 12, '0'))::uuid, 'Buy milk, bread and some other things');
insert into accepted.job (id, operation, principal, idempotency_key, max_attempts, updated_at, expires_at)
  values (('${today}7${run.slice(0, 3)}8${run.slice(3)}' || lpad(to_hex(:n::bigint), 12, '0'))::uuid, 'note.create', 'ann', '${run}-' || :n::bigint, 4, now(), now() + interval '7 days');
insert into pgboss.job (id, name, data, priority, retry_limit, retry_delay, expire_seconds, keep_until, policy)
  values (('${today}7${run.slice(0, 3)}8${run.slice(3)}' || lpad(to_hex(:n::bigint), 12, '0'))::uuid, 'note.create', jsonb_build_object('job', :n::bigint, 'payload', jsonb_build_object('noteId', :n::bigint)), 0, 3, 1, 4500, now() + interval '14 days', 'standard');
commit;
`
