import { setTimeout as delay } from 'node:timers/promises'
import { RawConnection, request } from './http.ts'
import type { Attack } from './phase.ts'

const answerTimeoutMs = 30_000

/** Runs work that repeats itself on several lanes at once. Each lane starts again until the time is over. */
export async function repeatFor(
  durationMs: number,
  lanes: number,
  work: (lane: number) => Promise<unknown>,
): Promise<void> {
  const endsAt = performance.now() + durationMs
  const runLane = async (lane: number) => {
    while (performance.now() < endsAt) {
      await work(lane)
      await delay(1)
    }
  }
  await Promise.all(Array.from({ length: lanes }, (_, lane) => runLane(lane)))
}

/** Sends requests together on one connection, and records all answers. An answer that does not come is a finding. */
export async function sendTogether(attack: Attack, requests: readonly string[]): Promise<void> {
  const connection = new RawConnection(attack.options.port)
  connection.send(
    requests.join(''),
    requests.map((text) => text.startsWith('HEAD ')),
  )
  attack.report.sent += requests.length
  try {
    for (const text of requests) {
      const response = await connection.next(answerTimeoutMs)
      if (!response) return attack.find(`No answer in ${answerTimeoutMs} ms: ${JSON.stringify(text.slice(0, 200))}`)
      attack.record(response, text)
    }
  } finally {
    connection.close()
  }
}

/** Submits a job on a connection of its own. Resolves to its id, or to undefined if it was not accepted. */
export async function submit(attack: Attack, path: string, body: object): Promise<string | undefined> {
  const connection = new RawConnection(attack.options.port)
  connection.send(request('POST', path, { body }))
  attack.report.sent += 1
  const response = await connection.next(answerTimeoutMs)
  connection.close()
  if (!response) {
    attack.find(`POST ${path} got no answer`)
    return undefined
  }
  attack.record(response, `POST ${path}`)
  return response.status === 202 ? JSON.parse(response.body).id : undefined
}

/** Submits jobs and waits until they have ended. Resolves to their ids. */
export async function submitAndAwait(attack: Attack, path: string, bodies: readonly object[]): Promise<string[]> {
  const ids: string[] = []
  for (const body of bodies) {
    const id = await submit(attack, path, body)
    if (id !== undefined) ids.push(id)
  }
  const waitHeaders = { Prefer: 'wait=30' }
  for (const id of ids) {
    const connection = new RawConnection(attack.options.port)
    connection.send(request('GET', `/jobs/${id}`, { headers: waitHeaders }))
    const response = await connection.next(answerTimeoutMs)
    if (!response) attack.find(`The job ${id} of ${path} did not end`)
    connection.close()
  }
  return ids
}
