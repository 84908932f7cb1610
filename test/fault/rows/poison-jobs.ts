import { setTimeout as delay } from 'node:timers/promises'
import { type Row, waitForAcknowledgements, waitUntilDrained } from '../row.ts'
import { submit } from '../submit.ts'
import type { SupervisedProcess } from '../supervised-process.ts'

/** The error codes with which a poison job may fail, by the behavior of the job. */
const expectedCodes: Record<string, RegExp> = {
  throw: /^handler-error$/,
  // The attempt has already failed when the promise rejects, but the rejection may still end the process.
  'reject-late': /^(handler-error|worker-crashed)$/,
  exit: /^worker-crashed$/,
  loop: /^worker-crashed$/,
  allocate: /^worker-crashed$/,
}

const poisonTokens = new Set<string>()

export const poisonJobs: Row = {
  name: 'poison-jobs',
  summary:
    'Jobs throw, reject late, exit the process, loop or exhaust the memory. Each of these jobs fails. The other jobs succeed and spend no attempt.',
  isMostlyWaiting: true,
  mayCrash: true,
  processOptions: { nodeArgs: ['--max-old-space-size=160'] },
  isExpectedToFail: (token) => poisonTokens.has(token),
  async run(context) {
    await using _ = startLivenessProbe(context.workers)
    const load = context.startLoad({ connections: 2 })
    for (const poison of Object.keys(expectedCodes)) {
      for (const token of await submit(context, '/poisoned', 1, { poison })) poisonTokens.add(token)
    }
    await waitForAcknowledgements(load, context.isShort ? 50 : 300, 120)
    await load.stop()
    await waitUntilDrained(context, 240)
    const jobs = await context.query(`
      select queue.data -> 'payload' ->> 'poison' as poison, job.status, job.error ->> 'code' as code, job.attempt
      from accepted.job join accepted_queue.job queue on queue.name = job.operation and queue.id = job.id
      where job.operation = 'intent.poison'`)
    const [{ spent }] = await context.query(`
      select count(*)::integer as spent from accepted.attempt join accepted.job on job.id = attempt.job_id
      where job.operation <> 'intent.poison' and attempt.error ->> 'code' <> 'worker-lost'`)
    const unexpectedEnds = jobs
      .filter(({ poison, code }) => !expectedCodes[poison]?.test(code))
      .map(({ poison, status, code }) => `The poison job '${poison}' is ${status} with the code ${code}`)
    return {
      faultCount: jobs.length,
      findings: [...unexpectedEnds, ...(spent > 0 ? [`${spent} attempts of other jobs were spent`] : [])],
      notes: jobs.map(({ poison, code, attempt }) => `${poison}: ${code} at attempt ${attempt}`),
    }
  },
}

const probeIntervalMs = 1_000
const probeTimeoutMs = 5_000

/** Kills each process that does not respond to a probe, as a container platform does. The process is restarted. */
function startLivenessProbe(processes: readonly SupervisedProcess[]) {
  const stopping = new AbortController()
  const probe = async (process: SupervisedProcess) => {
    await process.ready()
    while (!stopping.signal.aborted) {
      await delay(probeIntervalMs)
      const response = fetch(`${process.url}/health/live`, { signal: AbortSignal.timeout(probeTimeoutMs) })
      const isUnresponsive = await response.then(
        () => false,
        ({ name }) => name === 'TimeoutError',
      )
      if (isUnresponsive) process.signal('SIGKILL')
    }
  }
  const probing = Promise.all(processes.map(probe))
  return {
    async [Symbol.asyncDispose]() {
      stopping.abort()
      await probing
    },
  }
}
