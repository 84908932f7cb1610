import { setTimeout as delay } from 'node:timers/promises'
import { RawConnection, request } from '../http.ts'
import type { Attack, Phase } from '../phase.ts'
import { repeatFor, sendTogether, submit, submitAndAwait } from '../traffic.ts'
import { frame, openSocket } from '../websocket.ts'

const perKindMs = 5_000
const connections = 10
const perConnection = 8
/** As large as a body may be by default, so that a job may return what it was given. */
const largeBytes = 1_000_000

const sse = { headers: { Accept: 'text/event-stream' } }

/** Reads a stream for a short time. */
async function readStream(attack: Attack, path: string): Promise<void> {
  const connection = new RawConnection(attack.options.port)
  connection.send(request('GET', path, sse))
  attack.report.sent += 1
  const response = (await connection.next(300)) ?? connection.incomplete
  if (response) attack.record(response, path)
  else attack.count('no answer')
  connection.close()
}

async function readSocket(attack: Attack, ids: readonly string[]): Promise<void> {
  const connection = await openSocket(attack)
  connection?.send(frame(JSON.stringify({ subscribe: ids })))
  await delay(300)
  connection?.close()
}

async function submitAndWait(attack: Attack, content: string): Promise<void> {
  const headers = { Prefer: 'wait=20, return=representation' }
  await sendTogether(attack, [request('POST', '/bulk', { headers, body: { bytes: largeBytes, content } })])
}

export const largeResults: Phase = {
  name: 'large-results',
  summary: 'jobs with large results, read by ten connections at once: results, monitors, lists, streams and sockets',
  async run(attack) {
    const contents = ['random', 'repeated', 'nested'].flatMap((content) => [content, content])
    attack.step('preparation')
    const ids = await submitAndAwait(attack, '/bulk', [
      ...contents.map((content) => ({ content, bytes: largeBytes })),
      { content: 'random', bytes: 4 * largeBytes },
      // Many jobs of some size make a large list.
      ...Array.from({ length: attack.scaled(60) }, () => ({ content: 'nested', bytes: 15_000 })),
    ])
    const idOf = (lane: number) => ids[lane % (contents.length + 1)] as string
    const readAll = (toRequest: (id: string) => string) =>
      repeatFor(attack.scaled(perKindMs), connections, (lane) =>
        sendTogether(attack, Array(perConnection).fill(toRequest(idOf(lane)))),
      )
    attack.step('results')
    await readAll((id) => request('GET', `/jobs/${id}/result`))
    attack.step('monitors')
    await readAll((id) => request('GET', `/jobs/${id}`))
    attack.step('lists')
    await readAll(() => request('GET', '/jobs?limit=100'))
    attack.step('results with Prefer: wait')
    await readAll((id) => request('GET', `/jobs/${id}/result`, { headers: { Prefer: 'wait=5' } }))
    attack.step('pages')
    await readAll((id) => request('GET', `/jobs/${id}`, { headers: { Accept: 'text/html' } }))
    attack.step('snapshots')
    await repeatFor(attack.scaled(perKindMs), 20, () => readStream(attack, '/events'))
    attack.step('event streams')
    await repeatFor(attack.scaled(perKindMs), 20, (lane) => readStream(attack, `/jobs/${idOf(lane)}/events`))
    attack.step('sockets')
    await repeatFor(attack.scaled(perKindMs), 20, () => readSocket(attack, ids))
    attack.step('submit and wait')
    await repeatFor(attack.scaled(perKindMs), connections, (lane) =>
      submitAndWait(attack, contents[lane % contents.length] as string),
    )
    const streams = Array.from({ length: 20 }, () => new RawConnection(attack.options.port))
    for (const stream of streams) stream.send(request('GET', '/events', sse))
    attack.step('submit and wait')
    await repeatFor(attack.scaled(perKindMs), 4, () =>
      submit(attack, '/bulk', { bytes: largeBytes, content: 'random' }),
    )
    for (const stream of streams) stream.close()
  },
}
