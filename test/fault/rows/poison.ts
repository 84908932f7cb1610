import { setTimeout as delay } from 'node:timers/promises'
import type { Place } from '../processes.ts'
import { acknowledgedMore, drain, type Row } from '../stage.ts'
import { submit } from './processes.ts'

/** How a poison job ends, by its misdeed. */
const endings: Record<string, RegExp> = {
  throw: /^handler-error$/,
  // Its attempt has failed by then, but the process may die of it.
  'reject-late': /^(handler-error|worker-crashed)$/,
  exit: /^worker-crashed$/,
  loop: /^worker-crashed$/,
  allocate: /^worker-crashed$/,
}

const poisoned = new Set<string>()

export const poison: Row = {
  name: 'poison',
  waits: true,
  summary:
    'poison jobs (throw, reject late, exit, loop, allocate): each ends failed, the deadly ones with worker-crashed after dying alone twice; neighbours run and are charged nothing',
  deadly: true,
  place: { nodeArgs: ['--max-old-space-size=160'] },
  mustFail: (token) => poisoned.has(token),
  async story(stage) {
    await using _ = probe(stage.workers)
    const load = stage.load({ connections: 2 })
    for (const misdeed of Object.keys(endings)) {
      for (const token of await submit(stage, '/poisoned', 1, { poison: misdeed })) poisoned.add(token)
    }
    await acknowledgedMore(load, stage.short ? 50 : 300, 120)
    await load.stop()
    await drain(stage, 240)
    const jobs = await stage.query(`
      select queue.data -> 'payload' ->> 'poison' as misdeed, job.state, job.error ->> 'code' as code, job.attempt
      from accepted.job join pgboss.job queue on queue.name = job.operation and queue.id = job.id
      where job.operation = 'intent.poison'`)
    const [{ charged }] = await stage.query(`
      select count(*) as charged from accepted.attempt join accepted.job on job.id = attempt.job_id
      where job.operation <> 'intent.poison' and attempt.error ->> 'code' <> 'worker-lost'`)
    const wrong = jobs
      .filter(({ misdeed, code }) => !endings[misdeed]?.test(code))
      .map(({ misdeed, state, code }) => `${misdeed}: ${state}, ${code}`)
    return {
      faults: jobs.length,
      findings: [...wrong, ...(Number(charged) > 0 ? [`${charged} attempts were charged to neighbours`] : [])],
      notes: jobs.map(({ misdeed, code, attempt }) => `${misdeed}: ${code} at attempt ${attempt}`),
    }
  },
}

/** How long a process may be silent, and how often it is asked, in milliseconds. */
const liveWithin = 5_000
const probeEvery = 1_000

/** Kills what no longer answers, as whoever runs containers does with a liveness probe; it is started again. */
function probe(places: readonly Place[]) {
  const over = new AbortController()
  const look = async (place: Place) => {
    await place.ready()
    while (!over.signal.aborted) {
      await delay(probeEvery)
      const answer = fetch(`${place.url}/health/live`, { signal: AbortSignal.timeout(liveWithin) })
      const isSilent = await answer.then(
        () => false,
        ({ name }) => name === 'TimeoutError',
      )
      if (isSilent) place.signal('SIGKILL')
    }
  }
  const looking = Promise.all(places.map(look))
  return {
    async [Symbol.asyncDispose]() {
      over.abort()
      await looking
    },
  }
}
