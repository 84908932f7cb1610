import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../../support/until.ts'
import { attempt } from '../client.ts'
import { acknowledgedMore, drain, type Row, type Stage } from '../stage.ts'

/** Submits intents by themselves, each once. */
export async function submit(stage: Stage, path: string, count: number, body: object = {}): Promise<string[]> {
  const tokens: string[] = []
  for (let n = 0; n < count; n++) {
    const token = randomUUID()
    await stage.journal.append({ token, happening: 'invoked' })
    const outcome = await attempt(`${stage.apis[0]?.url}${path}`, { ...body, token })
    await stage.journal.append({ token, ...outcome })
    if (outcome.happening !== 'acknowledged') throw new Error(`The request was not accepted: ${outcome.why}`)
    tokens.push(token)
  }
  return tokens
}

/** How many executions have begun. */
export const executed = async ({ directory }: Stage): Promise<number> =>
  (await readFile(join(directory, 'executions'), 'utf8').catch(() => '')).split('\n').length - 1

/** Kills two of three processes of each kind at the same time, again and again. */
const killing = (
  name: string,
  summary: string,
  kinds: readonly ('apis' | 'workers')[],
  { most, short }: { most: number; short: number },
): Row => ({
  name,
  summary,
  apis: 3,
  workers: 3,
  async story(stage) {
    const load = stage.load()
    const total = stage.short ? short : most
    let kills = 0
    let next = 0
    let stuck = false
    while (kills < total && !stuck) {
      const spared = next++ % 3
      const chosen = kinds.flatMap((kind) => stage[kind].filter((_, index) => index !== spared))
      for (const place of chosen) place.signal('SIGKILL')
      kills += chosen.length
      await Promise.all(chosen.map((place) => place.ready()))
      stuck = !(await acknowledgedMore(load, 5))
    }
    await load.stop()
    return { faults: kills, findings: stuck ? ['Nothing was accepted any more'] : [] }
  },
})

export const kills = killing(
  'kills',
  'SIGKILL of workers and API under load: effects once, every 202 exists',
  ['apis', 'workers'],
  { most: 176, short: 8 },
)

export const apiKills = killing(
  'api-kills',
  'SIGKILL of the API in the middle of requests: every 202 exists, a retry with the key finds the same job',
  ['apis'],
  { most: 24, short: 6 },
)

/** A worker dies where it is known to be. */
const dyingIn = (where: 'perform' | 'settle', path: string): Row => ({
  name: `worker-dies-in-${where}${path === '/settled' ? '-batch' : ''}`,
  waits: true,
  summary: `SIGKILL of a worker in ${where} (${path.slice(1)}): effect once`,
  workers: 0,
  async story(stage) {
    const doomed = await stage.open('worker')
    doomed.start({ HANG: where })
    const hanging = doomed.hanging()
    await submit(stage, path, 5)
    await hanging
    await doomed.end('SIGKILL')
    const other = await stage.open('worker')
    other.start()
    await other.ready()
    return { faults: 1 }
  },
})

export const workerDies = [
  dyingIn('perform', '/performed'),
  dyingIn('settle', '/performed'),
  dyingIn('settle', '/settled'),
]

/** A worker is stopped past its lease, another takes over, and then the first goes on. */
const stopping = (where: 'perform' | 'settle'): Row => ({
  name: `stopped-in-${where}`,
  waits: true,
  summary: `SIGSTOP of a worker in ${where} past its lease, then SIGCONT: the stale settle is refused and rolled back`,
  workers: 0,
  async story(stage) {
    const jobs = 5
    const stale = await stage.open('worker')
    stale.start({ HANG: where })
    const hanging = stale.hanging()
    await submit(stage, '/performed', jobs)
    await hanging
    await until(async () => (await executed(stage)) === jobs)
    stale.signal('SIGSTOP')
    const other = await stage.open('worker')
    other.start()
    const left = await drain(stage, 120)
    stale.goOn()
    stale.signal('SIGCONT')
    // Its stale settles have ended when it has.
    const code = await stale.end('SIGTERM')
    return {
      faults: jobs,
      findings: [
        ...(left > 0 ? [`${left} jobs were not taken over`] : []),
        ...(code === 0 ? [] : [`The stale worker exited ${code}`]),
      ],
    }
  },
})

export const stoppedWorkers = [stopping('perform'), stopping('settle')]

export const deploy: Row = {
  name: 'deploy',
  summary: 'SIGTERM of API and workers under load: no request dropped, no attempt spent, exits in time',
  async story(stage) {
    // Some run longer than a stopping worker waits, and are handed back.
    const slow = stage.load({ connections: 1, paths: ['/performed'], body: { takes: 2_000 } })
    const load = stage.load()
    const codes: (number | null)[] = []
    const rounds = stage.short ? 1 : 3
    for (let round = 0; round < rounds; round++) {
      await acknowledgedMore(load, 20)
      // The new one is there before the old one is asked to stop, as in every rolling deploy.
      const [old] = stage.apis
      const next = await stage.open('api')
      next.start()
      await next.ready()
      stage.apis = [next]
      codes.push((await old?.end('SIGTERM')) ?? null)
      for (const [index, worker] of stage.workers.entries()) {
        const other = await stage.open('worker')
        other.start()
        await other.ready()
        codes.push(await worker.end('SIGTERM'))
        stage.workers[index] = other
      }
    }
    await Promise.all([load.stop(), slow.stop()])
    await drain(stage, 60)
    const [{ spent }] = await stage.query(
      'select (select count(*) from accepted.attempt) + (select count(*) from accepted.job where attempt > 1) as spent',
    )
    const dropped = [...load.unknowns, ...load.refusals, ...slow.unknowns, ...slow.refusals]
    return {
      faults: codes.length,
      findings: [
        ...(Number(spent) > 0 ? [`${spent} attempts were spent`] : []),
        ...dropped.map(([why, count]) => `${count} requests were dropped: ${why}`),
        ...codes.filter((code) => code !== 0).map((code) => `A process exited ${code}`),
      ],
    }
  },
}

export const oneKey: Row = {
  name: 'one-key',
  summary: 'two jobs with one key, as two retries of one job are: one effect, and both end like the first',
  workers: 0,
  async story(stage) {
    const url = stage.apis[0]?.url
    for (const path of ['/settled', '/performed']) {
      for (let n = 0; n < 10; n++) {
        const token = randomUUID()
        const key = `key-${token}`
        await stage.journal.append({ token, happening: 'invoked', key })
        const outcome = await attempt(`${url}${path}`, { token }, key)
        await stage.journal.append({ token, key, ...outcome })
        if (outcome.happening !== 'acknowledged') throw new Error(`The request was not accepted: ${outcome.why}`)
        const job = `${url}/jobs/${outcome.job}`
        for (const wish of ['cancel', 'retry', 'retry']) {
          const { status } = await fetch(`${job}/${wish}`, { method: 'POST' })
          if (status >= 300) throw new Error(`${wish} answered ${status}`)
        }
      }
    }
    for (let n = 0; n < 2; n++) (await stage.open('worker')).start()
    return { faults: 20 }
  },
}
