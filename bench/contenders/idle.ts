import { startCost } from '../core/cost.ts'
import { cpuOf } from '../core/proc.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { query, type Server } from '../core/server.ts'
import { countStatements, logStatements, type StatementCount } from '../core/statements.ts'

export interface IdleLoad {
  seconds: number
  /** Receives the statements that were sent during the measurement. */
  onStatements(statements: readonly StatementCount[], seconds: number): void
}

/** An API and a worker. They have run one job before, and have nothing to do during the measurement. */
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
    await runOneJob(`${api.url}/notes`)
    return {
      async measure({ seconds, onStatements }) {
        const statements = await countStatements(server, database)
        const before = await transactionsOf(server, database)
        const [apiBefore, workerBefore] = [cpuOf(api.pid), cpuOf(worker.pid)]
        // The cost is measured in another database, so that the statements of this measurement are not counted.
        const stopCost = await startCost(server, 'postgres', [])
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
        const { postgresCpu } = await stopCost()
        const sent = await statements()
        onStatements(sent, seconds)
        const [apiCpu, workerCpu] = [cpuOf(api.pid) - apiBefore, cpuOf(worker.pid) - workerBefore]
        const percent = (cpu: number) => (cpu / seconds) * 100
        return {
          statements: sent.reduce((sum, { count }) => sum + count, 0) / seconds,
          transactions: ((await transactionsOf(server, database)) - before) / seconds,
          cpu: percent(apiCpu + workerCpu),
          apiCpu: percent(apiCpu),
          workerCpu: percent(workerCpu),
          postgresCpu: percent(postgresCpu),
        }
      },
      async close() {
        await Promise.all([api.stop(), worker.stop()])
        await server.dropDatabase(database)
      },
    }
  },
}

/** Runs a job, because the programs open some connections only on first use. */
async function runOneJob(url: string): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=10' },
    body: '{"text":"Buy milk, bread and some other things"}',
  })
  if (response.status !== 200) throw new Error(`POST ${url} returned ${response.status}: ${await response.text()}`)
}

/** Counts transactions. The count lags by at most a second for busy backends, and by 10 s for idle backends. */
async function transactionsOf(server: Server, database: string): Promise<number> {
  const [row] = await query<{ count: string }>(
    server.urlOf('postgres'),
    'select xact_commit + xact_rollback as count from pg_stat_database where datname = $1',
    [database],
  )
  return Number(row?.count)
}
