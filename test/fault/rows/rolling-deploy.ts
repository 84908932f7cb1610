import { countOutcomes } from '../findings.ts'
import { findSpentAttempts, type Row, waitForAcknowledgements, waitUntilDrained } from '../row.ts'

export const rollingDeploy: Row = {
  name: 'rolling-deploy',
  summary:
    'API processes and workers are replaced with SIGTERM under load. No request is dropped, no attempt is spent, and every process exits in time.',
  // The grace period is shorter than the jobs of the slow load, so that stopping workers release some of these jobs.
  processOptions: { env: { GRACE_SECONDS: '1' } },
  async run(context) {
    const slowLoad = context.startLoad({ connections: 1, paths: ['/performed'], body: { durationMs: 2_000 } })
    const load = context.startLoad()
    const exitCodes: (number | null)[] = []
    const rounds = context.isShort ? 1 : 3
    for (let round = 0; round < rounds; round++) {
      await waitForAcknowledgements(load, 20)
      // As in every rolling deploy, the new process is ready before the old process is stopped.
      const [oldApi] = context.apis
      const newApi = await context.createProcess('api')
      newApi.start()
      await newApi.ready()
      context.apis = [newApi]
      exitCodes.push((await oldApi?.end('SIGTERM')) ?? null)
      for (const [index, oldWorker] of context.workers.entries()) {
        const newWorker = await context.createProcess('worker')
        newWorker.start()
        await newWorker.ready()
        exitCodes.push(await oldWorker.end('SIGTERM'))
        context.workers[index] = newWorker
      }
    }
    await Promise.all([load.stop(), slowLoad.stop()])
    await waitUntilDrained(context, 60)
    const dropped = countOutcomes(load.unknownOutcomes, load.refusals, slowLoad.unknownOutcomes, slowLoad.refusals)
    return {
      faultCount: exitCodes.length,
      findings: [
        ...(await findSpentAttempts(context)),
        ...dropped.map((outcome) => `Requests were dropped: ${outcome}`),
        ...exitCodes.filter((code) => code !== 0).map((code) => `A process exited with code ${code}`),
      ],
    }
  },
}
