import { costPer, startCost } from '../core/cost.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import type { Sample } from '../core/series.ts'
import { closedLoop } from '../core/wrk.ts'

export interface AcceptLoad {
  /** How many jobs the batch has. */
  jobs: number
  /** How long single requests are sent. */
  seconds: number
}

/** Accepts jobs over HTTP, and measures what the API and Postgres need for a job. */
const accepting = (
  name: string,
  accept: (url: string, load: AcceptLoad) => Promise<{ perSecond: number; jobs: number }>,
): Contender<AcceptLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `accept_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createOurs(database)
    const api = await startAccepted('api', directory, { DATABASE_URL: databaseUrl })
    return {
      async measure(load): Promise<Sample> {
        const stopCost = await startCost(server, database, [api.pid])
        const { perSecond, jobs } = await accept(api.url, load)
        return { perSecond, ...costPer(await stopCost(), jobs) }
      },
      async close() {
        await api.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

const single =
  (connections: number) =>
  async (url: string, { seconds }: AcceptLoad) => {
    const { perSecond } = await closedLoop(`${url}/notes`, connections, seconds)
    return { perSecond, jobs: perSecond * seconds }
  }

async function postBatch(url: string, { jobs }: AcceptLoad) {
  const items = Array.from({ length: jobs }, (_, n) => ({ operation: 'note.create', input: { text: `note ${n}` } }))
  const body = JSON.stringify({ items })
  const startedAt = performance.now()
  const response = await fetch(`${url}/batches`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID() },
    body,
  })
  const text = await response.text()
  if (response.status !== 202) throw new Error(`POST /batches was answered with ${response.status}: ${text}`)
  return { perSecond: jobs / ((performance.now() - startedAt) / 1000), jobs }
}

export const oneByOne = accepting('single requests, one after another', single(1))
export const concurrently = accepting('single requests, 64 at a time', single(64))
export const asBatch = accepting('one batch', postBatch)
