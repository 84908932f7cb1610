import { randomBytes } from 'node:crypto'
import { pgbench } from '../core/pgbench.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { costPer, query, startCost } from '../core/server.ts'
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
        const end = await startCost(server, database, [])
        const perSecond = await pgbench(directory, databaseUrl, { script, clients, end: { seconds } })
        const { processCpu, ...cost } = costPer(await end(), perSecond * seconds)
        return { perSecond, ...cost }
      },
      close: () => server.dropDatabase(database),
    }
  },
}

/** The four rows of a request; ids and keys are of today, and go up as ours do. */
const transaction = (today: string, run: string) => {
  const id = `('${today}7${run.slice(0, 3)}8${run.slice(3)}' || lpad(to_hex(:number::bigint), 12, '0'))::uuid`
  return `
\\set count :count + 1
\\set number :count * ${mostClients} + :client_id
begin;
insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
  values ('ann', '${run}-' || :number::bigint, sha256(int8send(:number::bigint)), ${id})
  on conflict on constraint idempotency_key_pkey do nothing;
insert into note (id, text) values (${id}, 'Buy milk, bread and some other things');
insert into accepted.job (id, operation, principal, idempotency_key, max_attempts, updated_at, expires_at)
  values (${id}, 'note.create', 'ann', '${run}-' || :number::bigint, 4, now(), now() + interval '7 days');
insert into pgboss.job_common (id, name, data, priority, retry_limit, retry_delay, expire_seconds, keep_until, policy)
  values (${id}, 'note.create', jsonb_build_object('job', ${id}, 'payload', jsonb_build_object('noteId', ${id})), 0, 3, 1, 4500, now() + interval '14 days', 'standard');
commit;
`
}
