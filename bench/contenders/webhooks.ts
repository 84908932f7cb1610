import { startAccepted, startModule } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import type { Sample } from '../core/series.ts'
import { query } from '../core/server.ts'
import { runAtFixedTimes } from '../load/pace.ts'
import { post } from '../load/post.ts'

export interface WebhookLoad {
  /** Endpoints that answer at once. */
  answering: number
  /** Endpoints that never answer. */
  silent: number
  /** Jobs that end. Each is delivered to every endpoint. */
  perSecond: number
  seconds: number
}

/** An API, a worker and a process with all endpoints. Measures the deliveries to the endpoints that answer. */
const contender = (name: string, { hasSilent }: { hasSilent: boolean }): Contender<WebhookLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `webhooks_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createOurs(database)
    const env = { DATABASE_URL: databaseUrl, WEBHOOK_ALLOW: '127.0.0.1' }
    const receiver = startModule('bench/load/webhook-receiver.ts', directory, {})
    const { port } = await receiver.receive<{ port: number }>()
    const [api, worker] = await Promise.all([
      startAccepted('api', directory, env),
      startAccepted('worker', directory, env),
    ])
    return {
      async measure({ answering, silent, ...pace }) {
        await registerEndpoints(databaseUrl, port, { answering, silent: hasSilent ? silent : 0 })
        const posted = await runAtFixedTimes(pace, () => post(`${api.url}/notes`))
        receiver.send({ expected: posted.length * answering })
        return receiver.receive<Sample>(120_000)
      },
      async close() {
        await Promise.all([api.stop(), worker.stop(), receiver.stop()])
        await server.dropDatabase(database)
      },
    }
  },
})

export const withSilent = contender('with silent endpoints', { hasSilent: true })
export const withoutSilent = contender('without silent endpoints', { hasSilent: false })

/** New endpoints for each round, so that their breakers are closed. Deliveries to those of the last round fail. */
const registerEndpoints = (
  url: string,
  port: number,
  { answering, silent }: Pick<WebhookLoad, 'answering' | 'silent'>,
): Promise<unknown> =>
  query(
    url,
    `with removed as (delete from accepted.webhook_endpoint)
    insert into accepted.webhook_endpoint (id, url, secrets)
    select accepted.uuid7(), format('http://127.0.0.1:%s/%s/%s', $1::int, kind, n), '{whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw}'
    from (values ('answering', $2::int), ('silent', $3::int)) as wanted (kind, count), generate_series(1, count) n`,
    [port, answering, silent],
  )
