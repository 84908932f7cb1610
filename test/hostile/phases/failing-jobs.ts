import { request } from '../http.ts'
import type { Phase } from '../phase.ts'
import { repeatFor, sendTogether, submit, submitAndAwait } from '../traffic.ts'

const perKindMs = 4_000
const connections = 10
const perConnection = 8
const largeLength = 900_000

/** Texts that end up in errors, and so in the redaction of credentials. */
const slowToRedact = [
  'pwd-',
  'a:',
  '://',
  'password=',
  'eyJ',
  '"',
  'Bearer ',
  'x@',
  '-----BEGIN ',
  'sk_live_',
  '\\u0020',
]

export const failingJobs: Phase = {
  name: 'failing-jobs',
  summary: 'jobs that fail with large errors or with texts that are slow to redact; their errors are read and retried',
  async run(attack) {
    const texts = slowToRedact.map((text) => text.repeat(Math.floor(largeLength / text.length / 3)))
    attack.step('texts that are slow to redact')
    await repeatFor(attack.scaled(perKindMs), 4, async (lane) => {
      for (const text of texts) await submit(attack, '/failing', { text, isDeclared: lane % 2 === 0 })
    })
    attack.step('preparation')
    const ids = await submitAndAwait(attack, '/failing', [
      ...Array.from({ length: 6 }, () => ({ text: 'x'.repeat(largeLength), isDeclared: true })),
      ...Array.from({ length: attack.scaled(40) }, () => ({ text: 'x'.repeat(15_000), isDeclared: true })),
    ])
    const idOf = (lane: number) => ids[lane % 6] as string
    const readAll = (toRequest: (id: string) => string) =>
      repeatFor(attack.scaled(perKindMs), connections, (lane) =>
        sendTogether(attack, Array(perConnection).fill(toRequest(idOf(lane)))),
      )
    attack.step('monitors')
    await readAll((id) => request('GET', `/jobs/${id}`))
    attack.step('results')
    await readAll((id) => request('GET', `/jobs/${id}/result`))
    attack.step('lists')
    await readAll(() => request('GET', '/jobs?limit=100&status=failed'))
    attack.step('retries')
    await readAll((id) => request('POST', `/jobs/${id}/retry`))
  },
}
