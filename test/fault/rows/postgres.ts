import { join } from 'node:path'
import { until } from '../../support/until.ts'
import { countOutcomes, findServerErrors, findUnnoticedEnds } from '../findings.ts'
import { nothingAccepted, type Row, type RowContext, waitForAcknowledgements } from '../row.ts'
import { startServer } from '../server.ts'

export const postgresCrash: Row = {
  name: 'postgres-crash',
  summary:
    'Postgres crashes and restarts repeatedly under load. Every process survives and reconnects, and no job is lost.',
  startServer: (directory) => startServer({ dataDir: join(directory, 'server') }),
  async run(context) {
    const load = context.startLoad()
    const crashCount = context.isShort ? 2 : 20
    const outageSeconds: number[] = []
    let isStuck = false
    for (let n = 0; n < crashCount && !isStuck; n++) {
      await waitForAcknowledgements(load, 20)
      await context.server.crash()
      const restartedAt = performance.now()
      await context.server.restart()
      isStuck = !(await waitForAcknowledgements(load, 1))
      outageSeconds.push((performance.now() - restartedAt) / 1000)
    }
    await load.stop()
    return {
      faultCount: outageSeconds.length,
      notes: [`accepted again at most ${Math.max(...outageSeconds).toFixed(1)} s after the start of a restart`],
      findings: isStuck ? [nothingAccepted] : [],
    }
  },
}

export const terminatedBackends: Row = {
  name: 'terminated-backends',
  summary:
    'Random backends are terminated, including the backends of LISTEN connections. Requests are retried or answered with 503, and long polls still return the end of a job.',
  async run(context) {
    const load = context.startLoad()
    const roundCount = context.isShort ? 10 : 80
    let faultCount = 0
    const terminate = async (condition: string, maxCount: number) => {
      const terminated = await context.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend' and ${condition}
        order by random() limit $1`,
        [maxCount],
      )
      faultCount += terminated.length
    }
    const isListener = "application_name like '%listen'"
    let isStuck = false
    for (let round = 0; round < roundCount && !isStuck; round++) {
      await terminate('true', 3)
      if (round % 5 === 0) await terminate(isListener, 3)
      isStuck = !(await waitForAcknowledgements(load, 5))
    }
    await terminate(isListener, 3)
    const findings = [...(await findUnnoticedEnds(context)), ...findServerErrors(load.refusals)]
    await load.stop()
    return { faultCount, findings: isStuck ? [nothingAccepted, ...findings] : findings }
  },
}

interface ContentionRow {
  name: string
  summary: string
  /** Settings that make transactions fail on contention, in the format of PGOPTIONS. */
  options: string
  /** The load runs until this number of intents are acknowledged. The short version stops after 100. */
  acknowledgements: number
}

const contentionRow = ({ name, summary, options, acknowledgements }: ContentionRow): Row => ({
  name,
  summary,
  processOptions: { env: { PGOPTIONS: options } },
  async run(context) {
    const rollbacksBefore = await countRollbacks(context)
    const load = context.startLoad({ paths: ['/contended'], connections: 8 })
    await waitForAcknowledgements(load, context.isShort ? 100 : acknowledgements, 120)
    await load.stop()
    // A backend publishes its statistics only after it has been idle for a while.
    await until(async () => (await countRollbacks(context)) > rollbacksBefore).catch(() => {})
    const rollbacks = (await countRollbacks(context)) - rollbacksBefore
    return {
      faultCount: rollbacks,
      findings: [
        ...findServerErrors(load.refusals),
        ...(rollbacks > 0 ? [] : ['No transaction was rolled back, so nothing was tested']),
      ],
      notes: countOutcomes(load.unknownOutcomes, load.refusals),
    }
  },
})

async function countRollbacks({ query }: RowContext): Promise<number> {
  const [row] = await query('select xact_rollback as count from pg_stat_database where datname = current_database()')
  return Number(row?.count)
}

export const contentionRows = [
  contentionRow({
    name: 'deadlocks',
    summary: 'accept and settle run into deadlocks (40P01). Both are retried, and no job is partially written.',
    options: '-c deadlock_timeout=20ms',
    acknowledgements: 400,
  }),
  contentionRow({
    name: 'serialization-failures',
    summary: 'accept and settle get serialization failures (40001). Both are retried, and no job is partially written.',
    options: '-c default_transaction_isolation=repeatable\\ read',
    acknowledgements: 100,
  }),
  contentionRow({
    name: 'lock-timeouts',
    summary: 'accept and settle run into lock timeouts (55P03). Both are retried, and no job is partially written.',
    options: '-c lock_timeout=5ms',
    acknowledgements: 100,
  }),
]
