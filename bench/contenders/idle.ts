import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { cpuOf, query, type Server, startCost } from '../core/server.ts'
import { type Counted, countStatements, logStatements } from '../core/statements.ts'

/** So long nobody asks for anything. */
export interface IdleLoad {
  seconds: number
  /** Told what was sent meanwhile. */
  onCounted(statements: readonly Counted[], seconds: number): void
}

/** An API and a worker that have worked, and have nothing to do. */
export const idle: Contender<IdleLoad> = {
  name: 'Accepted, API + worker',
  async open({ server, directory }) {
    const database = 'idle'
    const databaseUrl = await server.createOurs(database)
    await logStatements(server, database)
    const [api, worker] = await Promise.all([
      startAccepted('api', directory, { DATABASE_URL: databaseUrl }),
      startAccepted('worker', directory, { DATABASE_URL: databaseUrl }),
    ])
    await work(`${api.url}/notes`)
    return {
      async measure({ seconds, onCounted }) {
        const statements = await countStatements(server, database)
        const before = await transactionsOf(server, database)
        const [apiBefore, workerBefore] = [cpuOf(api.pid), cpuOf(worker.pid)]
        // Asked elsewhere: what asks is not to be counted.
        const end = await startCost(server, 'postgres', [])
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
        const { postgresCpu } = await end()
        const sent = await statements()
        onCounted(sent, seconds)
        const [apiCpu, workerCpu] = [cpuOf(api.pid) - apiBefore, cpuOf(worker.pid) - workerBefore]
        const part = (cpu: number) => (cpu / seconds) * 100
        return {
          statements: sent.reduce((sum, { count }) => sum + count, 0) / seconds,
          transactions: ((await transactionsOf(server, database)) - before) / seconds,
          cpu: part(apiCpu + workerCpu),
          apiCpu: part(apiCpu),
          workerCpu: part(workerCpu),
          postgresCpu: part(postgresCpu),
        }
      },
      async close() {
        await Promise.all([api.stop(), worker.stop()])
        await server.dropDatabase(database)
      },
    }
  },
}

/** Who has never worked has not yet connected to everything. */
async function work(url: string): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=10' },
    body: '{"text":"Buy milk, bread and some other things"}',
  })
  if (response.status !== 200) throw new Error(`${url} answered ${response.status}: ${await response.text()}`)
}

/** A backend tells what it has done within a second, as long as it does something, and else within ten. */
async function transactionsOf(server: Server, database: string): Promise<number> {
  const [row] = await query<{ count: string }>(
    server.urlOf('postgres'),
    'select xact_commit + xact_rollback as count from pg_stat_database where datname = $1',
    [database],
  )
  return Number(row?.count)
}
