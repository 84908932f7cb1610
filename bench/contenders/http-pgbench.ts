import { randomBytes } from 'node:crypto'
import { costPer, startCost } from '../core/cost.ts'
import { pgbench } from '../core/pgbench.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { query } from '../core/server.ts'
import type { HttpLoad } from './http.ts'

/** Each client has its own backend. More clients would lower the throughput. */
const maxClients = 16

/** Writes the same rows as our API, with one transaction per request, but from pgbench (a C program). */
export const floor: Contender<HttpLoad> = {
  name: 'pgbench, one transaction per request',
  async open({ server, directory }) {
    const database = 'http_pgbench'
    const databaseUrl = await server.createOurs(database)
    // The worker creates the queues.
    await (await startAccepted('worker', directory, { DATABASE_URL: databaseUrl })).stop()
    const [columns] = await query<{ today: string }>(
      databaseUrl,
      "select substr(replace(accepted.uuid_floor(now())::text, '-', ''), 1, 12) as today",
    )
    return {
      async measure({ connections, seconds }) {
        const run = randomBytes(3).toString('hex')
        const script = transaction(columns?.today as string, run)
        const clients = Math.min(connections, maxClients)
        const stopCost = await startCost(server, database, [])
        const perSecond = await pgbench(directory, databaseUrl, { script, clients, end: { seconds } })
        const { processCpu, ...cost } = costPer(await stopCost(), perSecond * seconds)
        return { perSecond, ...cost }
      },
      close: () => server.dropDatabase(database),
    }
  },
}

/** Inserts the four rows of a request. As in the API, ids and keys increase, and ids belong to today's partition. */
const transaction = (today: string, run: string) => {
  const id = `('${today}7${run.slice(0, 3)}8${run.slice(3)}' || lpad(to_hex(:number::bigint), 12, '0'))::uuid`
  return `
\\set count :count + 1
\\set number :count * ${maxClients} + :client_id
begin;
insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
  values ('ann', '${run}-' || :number::bigint, sha256(int8send(:number::bigint)), ${id})
  on conflict on constraint idempotency_key_pkey do nothing;
insert into note (id, text) values (${id}, 'Buy milk, bread and some other things');
insert into accepted.job (id, operation, principal, idempotency_key, max_attempts, updated_at, expires_at)
  values (${id}, 'note.create', 'ann', '${run}-' || :number::bigint, 4, now(), now() + interval '7 days');
insert into accepted_queue.job_common (id, name, data, priority, retry_limit, retry_delay, expire_seconds, keep_until, policy)
  values (${id}, 'note.create', jsonb_build_object('job', ${id}, 'payload', jsonb_build_object('noteId', ${id})), 0, 3, 1, 4500, now() + interval '14 days', 'standard');
commit;
`
}
