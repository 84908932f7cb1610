import type { Row, RowContext } from '../row.ts'
import { submitOne } from '../submit.ts'

const jobsPerPath = 10

export const duplicateKey: Row = {
  name: 'duplicate-key',
  summary:
    'Each job is canceled and then retried twice, so both retries have its key. Both succeed, and the effect happens once.',
  workerCount: 0,
  async run(context) {
    const paths = ['/settled', '/performed']
    for (const path of paths) {
      for (let n = 0; n < jobsPerPath; n++) await submitAndRetryTwice(context, path)
    }
    for (let n = 0; n < 2; n++) (await context.createProcess('worker')).start()
    return { faultCount: paths.length * jobsPerPath }
  },
}

async function submitAndRetryTwice(context: RowContext, path: string): Promise<void> {
  const { jobUrl } = await submitOne(context, path, { withKey: true })
  for (const action of ['cancel', 'retry', 'retry']) {
    const { status } = await fetch(`${jobUrl}/${action}`, { method: 'POST' })
    if (status >= 300) throw new Error(`POST ${jobUrl}/${action} was answered with ${status}`)
  }
}
