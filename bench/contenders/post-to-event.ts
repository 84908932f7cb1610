import { startAccepted, startModule } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import type { Sample } from '../core/series.ts'
import type { Server } from '../core/server.ts'

/** Requests at fixed times. */
export interface PostLoad {
  perSecond: number
  seconds: number
}

interface Running {
  origin: string
  stop(): Promise<void>
}

/** A client sends POSTs to an API and follows the events of all its jobs. A worker completes the jobs. */
const contender = (
  name: string,
  database: string,
  start: (server: Server, directory: string) => Promise<Running>,
): Contender<PostLoad> => ({
  name,
  async open({ server, directory }) {
    const { origin, stop } = await start(server, directory)
    const client = startModule('bench/load/post-to-event.ts', directory, {})
    return {
      measure(load) {
        client.send({ origin, ...load })
        return client.receive<Sample>()
      },
      async close() {
        await client.stop()
        await stop()
        await server.dropDatabase(database)
      },
    }
  },
})

export const postToEvent = contender('Accepted', 'post_to_event', async (server, directory) => {
  const env = { DATABASE_URL: await server.createOurs('post_to_event') }
  const [api, worker] = await Promise.all([
    startAccepted('api', directory, env),
    startAccepted('worker', directory, env),
  ])
  return { origin: api.url, stop: async () => void (await Promise.all([api.stop(), worker.stop()])) }
})

export const postToEventByHand = contender('hand-written', 'post_to_event_bare', async (server, directory) => {
  const module = 'bench/contenders/post-to-event-bare.ts'
  const env = { DATABASE_URL: await server.createDatabase('post_to_event_bare') }
  // The API creates the schema, so it starts first.
  const api = startModule(module, directory, env)
  const { port } = await api.receive<{ port: number }>()
  const worker = startModule(module, directory, { ...env, ROLE: 'work' })
  await worker.receive()
  return {
    origin: `http://127.0.0.1:${port}`,
    stop: async () => void (await Promise.all([api.stop(), worker.stop()])),
  }
})
