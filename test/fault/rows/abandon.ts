import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { nothingAccepted, type Row, type RowContext, waitForAcknowledgements } from '../row.ts'
import { startServer } from '../server.ts'

/** The pause between two storms of cancel requests. */
const stormPauseMs = 100
/** The number of jobs in each storm. */
const stormSize = 10

/** What a row with a storm of cancel requests does besides. */
interface Storm extends Pick<Row, 'name' | 'summary'> {
  paths: readonly string[]
  /** The number of rounds of faults in the long version. Default: 16. */
  maxRounds?: number
  /** Causes more work at intervals, between the storms. It may fail, because processes and Postgres are down at times. */
  also?(context: RowContext): Promise<void>
  checkAfterDrain?(context: RowContext): Promise<string[]>
}

/** Creates a row in which jobs fail and are canceled while processes are killed, Postgres crashes and abandon fails. */
export const stormRow = ({ paths, maxRounds = 16, also = async () => {}, checkAfterDrain, ...row }: Storm): Row => ({
  ...row,
  apiCount: 2,
  workerCount: 2,
  mayEndUnsuccessfully: true,
  processOptions: { env: { ABANDON_FAILS: '1' } },
  startServer: (directory) => startServer({ dataDir: join(directory, 'server') }),
  async run(context) {
    const load = context.startLoad({ paths })
    const storm = startCancelStorm(context, also)
    const roundCount = context.isShort ? 4 : maxRounds
    let faultCount = 0
    let isStuck = false
    for (let round = 0; round < roundCount && !isStuck; round++) {
      if (round % 4 === 3) {
        await context.server.crash()
        await context.server.restart()
        faultCount += 1
      } else {
        const targets = [context.apis[round % 2], context.workers[round % 2]].filter((process) => process !== undefined)
        for (const target of targets) target.signal('SIGKILL')
        faultCount += targets.length
        await Promise.all(targets.map((target) => target.ready()))
      }
      isStuck = !(await waitForAcknowledgements(load, 20))
    }
    await load.stop()
    const canceledCount = await storm.stop()
    const [{ failed, canceled }] = await context.query(`
      select
        count(*) filter (where status = 'failed')::integer as failed,
        count(*) filter (where status = 'canceled')::integer as canceled
      from accepted.job`)
    return {
      faultCount,
      notes: [`cancel requests: ${canceledCount}`, `failed jobs: ${failed}`, `canceled jobs: ${canceled}`],
      findings: [
        ...(isStuck ? [nothingAccepted] : []),
        ...(failed > 0 && canceled > 0 ? [] : ['No job failed or none was canceled, so nothing was tested']),
      ],
      ...(checkAfterDrain && { checkAfterDrain: () => checkAfterDrain(context) }),
    }
  },
})

export const abandonRow = stormRow({
  name: 'abandon',
  summary:
    'Jobs fail, and SQL and HTTP cancel others, while processes are killed, Postgres crashes and abandon fails. Each domain row has the state of its job.',
  paths: ['/settled', '/performed', '/failing'],
})

/** Cancels random pending jobs at intervals, half of them in SQL and half over HTTP. */
function startCancelStorm(
  context: RowContext,
  also: (context: RowContext) => Promise<void>,
): { stop(): Promise<number> } {
  let isStopped = false
  let count = 0
  const cancelSome = async () => {
    const pending = await context.query(
      'select id from accepted.job where ended_at is null order by random() limit $1',
      [stormSize],
    )
    for (const [index, { id }] of pending.entries()) {
      const url = context.apis[index % context.apis.length]?.url
      if (index % 2 === 0) await context.query('select accepted.cancel($1)', [id])
      else await fetch(`${url}/jobs/${id}/cancel`, { method: 'POST', signal: AbortSignal.timeout(5_000) })
      count += 1
    }
  }
  const run = async () => {
    while (!isStopped) {
      // A process or Postgres may be down, and a job may have ended.
      await cancelSome().catch(() => {})
      await also(context).catch(() => {})
      await delay(stormPauseMs)
    }
  }
  const running = run()
  return {
    async stop() {
      isStopped = true
      await running
      return count
    },
  }
}
