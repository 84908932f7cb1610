import { nothingAccepted, type Row, waitForAcknowledgements } from '../row.ts'

interface KillCounts {
  full: number
  short: number
}

/** Repeatedly kills two of three processes of each kind at the same time. */
const killRow = (name: string, summary: string, kinds: readonly ('apis' | 'workers')[], counts: KillCounts): Row => ({
  name,
  summary,
  apiCount: 3,
  workerCount: 3,
  async run(context) {
    const load = context.startLoad()
    const total = context.isShort ? counts.short : counts.full
    let killCount = 0
    let isStuck = false
    for (let round = 0; killCount < total && !isStuck; round++) {
      const targets = kinds.flatMap((kind) => context[kind].filter((_, index) => index !== round % 3))
      for (const target of targets) target.signal('SIGKILL')
      killCount += targets.length
      await Promise.all(targets.map((target) => target.ready()))
      isStuck = !(await waitForAcknowledgements(load, 5))
    }
    await load.stop()
    return { faultCount: killCount, findings: isStuck ? [nothingAccepted] : [] }
  },
})

export const processKills = killRow(
  'process-kills',
  'API processes and workers are killed under load. Every 202 has its job, and every effect happens once.',
  ['apis', 'workers'],
  { full: 176, short: 8 },
)

export const apiKills = killRow(
  'api-kills',
  'API processes are killed during requests. Every 202 has its job, and a retry with the same key returns that job.',
  ['apis'],
  { full: 24, short: 6 },
)
