import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../../support/until.ts'
import { hogging as operation } from '../app/operations.ts'
import type { Place } from '../processes.ts'
import type { Row } from '../stage.ts'
import { executed, submit } from './processes.ts'

/** By then who takes back silent jobs has looked at those of a hog, in seconds; after two heartbeats it is killed. */
const lookedAfter = operation.heartbeatSeconds + 4

export const hogging: Row = {
  name: 'hogging',
  waits: true,
  summary:
    'handlers keep the event loop busy for longer than a heartbeat: a perform is taken back, runs elsewhere, and its late settle is refused; a settle that holds its job ends it; no process dies',
  workers: 3,
  async story(stage) {
    const file = (name: string) => join(stage.directory, `executions-${name}`)
    for (const hog of ['perform', 'settle']) {
      await submit(stage, '/hogging', 1, { hog })
      await until(() => existsSync(file(`hog-${hog}`)))
    }
    await until(async () => {
      const [{ ended, overdue }] = await stage.query(
        `select
          (select count(*)::integer from accepted.job where state = 'succeeded') as ended,
          (
            select count(*)::integer from pgboss.job
            where data -> 'payload' ->> 'hog' = 'settle' and heartbeat_on < now() - make_interval(secs => $1)
          ) as overdue`,
        [lookedAfter],
      )
      return ended === 1 && overdue === 1
    })
    writeFileSync(file('go-on'), '')
    const after = async () => {
      // It has been executed elsewhere; this is what the one that was taken from came to.
      await until(async () => (await countLost(stage.workers)) === 1)
      const count = await executed(stage)
      return count === 3 ? [] : [`${count} executions, not two of the perform and one of the settle`]
    }
    return { faults: 2, after }
  },
}

/** How many claims the workers have found lost. */
async function countLost(workers: readonly Place[]): Promise<number> {
  const counts = workers.map(async ({ url }) => {
    const text = await (await fetch(`${url}/metrics`)).text()
    return Number(text.match(/^accepted_attempts_total\{.*outcome="lost".*\} (\d+)$/m)?.[1] ?? 0)
  })
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
}

const carelessness = ['together', 'together-always', 'unawaited', 'past-rollback', 'past-commit']

const failing = new Set<string>()

export const carelessHandler: Row = {
  name: 'careless-handler',
  summary:
    'settle sends statements beside one that fails, does not wait for a write, or writes on past its end: nothing partial, nothing slips out of the transaction, neighbours in the batch are charged nothing',
  workers: 0,
  mustFail: (token) => failing.has(token),
  async story(stage) {
    const each = stage.short ? 2 : 10
    for (let n = 0; n < each; n++) {
      for (const careless of carelessness) {
        const tokens = await submit(stage, '/careless', 1, { careless })
        if (careless === 'together-always') for (const token of tokens) failing.add(token)
        await submit(stage, '/careless', 1, { careless: 'not' })
      }
    }
    for (let n = 0; n < 2; n++) (await stage.open('worker')).start()
    const after = async () => {
      const [{ slipped, written, charged }] = await stage.query(`
        select
          (select count(*)::integer from stray where not exists (
            select from effect where effect.job_id = stray.job_id and effect.xmin::text = stray.xmin::text
          )) as slipped,
          (select count(*)::integer from stray) as written,
          (
            select count(*)::integer from accepted.attempt join pgboss.job on job.id = attempt.job_id
            where job.data -> 'payload' ->> 'careless' = 'not'
          ) as charged`)
      return [
        ...(written > 0 ? [] : ['Nothing was written beside an effect: nothing was tested']),
        ...(slipped > 0 ? [`${slipped} writes slipped out of the transaction of their effect`] : []),
        ...(charged > 0 ? [`${charged} attempts were charged to neighbours`] : []),
      ]
    }
    return { faults: each * carelessness.length, after }
  },
}
