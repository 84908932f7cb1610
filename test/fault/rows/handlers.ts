import type { Row } from '../stage.ts'
import { submit } from './processes.ts'

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
