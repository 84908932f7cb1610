import { until } from '../../support/until.ts'
import { countExecutions } from '../executions.ts'
import { type Row, waitUntilDrained } from '../row.ts'
import { submit } from '../submit.ts'

/** Pauses a worker until another worker has rescued and ended its jobs. Then the paused worker continues. */
const pausedIn = (phase: 'perform' | 'settle'): Row => ({
  name: `worker-paused-in-${phase}`,
  summary: `A worker is paused with SIGSTOP during ${phase} until its jobs are rescued. Then it continues, and its late settle is rolled back.`,
  isMostlyWaiting: true,
  workerCount: 0,
  async run(context) {
    const jobCount = 5
    const paused = await context.createProcess('worker')
    paused.start({ HANG: phase })
    const hangs = paused.untilHandlerHangs()
    await submit(context, '/performed', jobCount)
    await hangs
    await until(async () => (await countExecutions(context)) === jobCount)
    paused.signal('SIGSTOP')
    const other = await context.createProcess('worker')
    other.start()
    const pending = await waitUntilDrained(context, 120)
    paused.resumeHandler()
    paused.signal('SIGCONT')
    // After SIGTERM, the worker first ends its late settles and then exits.
    const code = await paused.end('SIGTERM')
    return {
      faultCount: jobCount,
      findings: [
        ...(pending > 0 ? [`${pending} jobs were not rescued`] : []),
        ...(code === 0 ? [] : [`The paused worker exited with code ${code}`]),
      ],
    }
  },
})

export const workerPausedInPerform = pausedIn('perform')
export const workerPausedInSettle = pausedIn('settle')
