import { until } from '../../support/until.ts'
import { countExecutions } from '../executions.ts'
import { type Row, waitUntilDrained } from '../row.ts'
import { submit } from '../submit.ts'

/** A worker is paused until another worker has rescued and ended its jobs, and then continues. */
const pausedIn = (phase: 'perform' | 'settle'): Row => ({
  name: `worker-paused-in-${phase}`,
  summary: `A worker is paused with SIGSTOP during ${phase} past its lease, then continues. Its late settle is rolled back.`,
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
    // A clean exit waits for the late settles.
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
