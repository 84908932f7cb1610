import { startAccepted, startModule } from '../core/process.ts'
import type { Contender, Sample } from '../core/scenario.ts'

/** So many a second at fixed times, so long. */
export interface PostLoad {
  perSecond: number
  seconds: number
}

/** An API, a worker, and a client that POSTs and follows the events of all its jobs. */
export const postToEvent: Contender<PostLoad> = {
  name: 'Accepted',
  async open({ server, directory }) {
    const database = 'post_to_event'
    const databaseUrl = await server.createOurs(database)
    const [api, worker] = await Promise.all([
      startAccepted('api', directory, { DATABASE_URL: databaseUrl }),
      startAccepted('worker', directory, { DATABASE_URL: databaseUrl }),
    ])
    const client = startModule('bench/load/post-to-event.ts', directory, {})
    return {
      measure(load) {
        client.send({ origin: api.url, ...load })
        return client.hear<Sample>()
      },
      async close() {
        await client.stop()
        await Promise.all([api.stop(), worker.stop()])
        await server.dropDatabase(database)
      },
    }
  },
}
