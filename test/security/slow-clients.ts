import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { text } from 'node:stream/consumers'
import { quantile } from '../hostile/report.ts'

/** A way in which slowhttptest keeps connections busy. */
export interface SlowMode {
  name: string
  path: string
  args: string[]
}

/** The modes of slowhttptest. */
export const slowModes: readonly SlowMode[] = [
  { name: 'slow headers', path: '/jobs', args: ['-H', '-i', '2', '-x', '16'] },
  { name: 'slow body', path: '/todos', args: ['-B', '-i', '2', '-s', '8192', '-x', '16', '-f', 'application/json'] },
  { name: 'ranges', path: '/openapi.json', args: ['-R', '-t', 'GET', '-a', '5', '-b', '3000'] },
  { name: 'slow read', path: '/openapi.json', args: ['-X', '-w', '64', '-y', '256', '-n', '2', '-z', '16', '-k', '3'] },
]

const connections = 500
const connectionsPerSecond = 250
/** How long slowhttptest waits for the answer to a probe of its own, in seconds. */
const probeTimeoutSeconds = 15
const requestTimeoutMs = 30_000

export interface SlowResult {
  /** The number of requests of the bystander that were accepted. */
  answered: number
  /** The number that got 503, because the machine is too slow for this load. */
  refused: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  findings: string[]
}

export interface SlowOptions {
  port: number
  authorization: string
  seconds: number
}

/** Runs slowhttptest in one mode while a bystander keeps posting, each request on a connection of its own. */
export async function runSlowClients(
  mode: SlowMode,
  { port, authorization, seconds }: SlowOptions,
): Promise<SlowResult> {
  const url = `http://127.0.0.1:${port}${mode.path}`
  const size = ['-c', connections, '-r', connectionsPerSecond, '-l', seconds, '-p', probeTimeoutSeconds].map(String)
  const child = spawn('slowhttptest', [...mode.args, ...size, '-u', url], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  const bystander = keepPosting(port, authorization, ended)
  const [output] = await ended
  const { latencies, refused, findings } = await bystander
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colors of a terminal
  const plain = output.replaceAll(/\x1b\[[\d;]*m/g, '')
  const states = [...plain.matchAll(/service available:\s+(\w+)/g)].map(([, state]) => state)
  return {
    answered: latencies.length,
    refused,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    maxMs: Math.max(...latencies, 0),
    findings: [
      ...findings,
      ...(latencies.length <= refused ? ['Most requests of the bystander were not accepted'] : []),
      ...(states.length === 0 ? [`slowhttptest did not run: ${plain.trim().slice(-300)}`] : []),
      ...(states.includes('NO') ? ['slowhttptest found the API unavailable'] : []),
    ],
  }
}

async function keepPosting(port: number, authorization: string, ended: Promise<unknown>) {
  const latencies: number[] = []
  const findings: string[] = []
  let refused = 0
  let isEnded = false
  const end = () => {
    isEnded = true
  }
  ended.then(end, end)
  while (!isEnded && findings.length < 5) {
    const startedAt = performance.now()
    const status = await postTodo(port, authorization).catch((error: Error) => error.message)
    if (status === 202) latencies.push(performance.now() - startedAt)
    else if (status === 503) refused += 1
    else findings.push(`A request of the bystander got ${status}, not 202`)
  }
  return { latencies, refused, findings }
}

function postTodo(port: number, authorization: string): Promise<number> {
  const headers = { ...(authorization && { authorization }), 'content-type': 'application/json' }
  const options = { host: '127.0.0.1', port, method: 'POST', path: '/todos', headers, agent: false }
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ ...options, timeout: requestTimeoutMs }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode as number))
      response.on('error', reject)
    })
    sent.on('timeout', () => sent.destroy(new Error(`no answer in ${requestTimeoutMs} ms`)))
    sent.on('error', reject)
    sent.end(JSON.stringify({ title: 'bystander' }))
  })
}
