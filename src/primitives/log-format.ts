import { styleText } from 'node:util'
import { BoundedMap } from './bounded-map.ts'
import { printable } from './printable.ts'
import type { SerializedError } from './redact.ts'

type Style = Parameters<typeof styleText>[0]

/** The levels of pino, by number. */
const levels: Readonly<Record<number, readonly [name: string, style: Style]>> = {
  10: ['TRACE', 'gray'],
  20: ['DEBUG', 'gray'],
  30: ['INFO', 'green'],
  40: ['WARN', 'yellow'],
  50: ['ERROR', 'red'],
  60: ['FATAL', ['bgRed', 'white']],
}

/** The requests whose answers are awaited, at most. Of more, the line of an answer does not name the request. */
const maxOpenRequests = 10_000

/**
 * Returns a function that makes the lines of one log readable for people: the time, the level, the message, the other
 * members and the stack. A request becomes one line, when it is answered; a health check that succeeds becomes none. A
 * line that is no JSON of pino stays as it is.
 */
export function createLogFormat(): (line: string) => string {
  const requests = new BoundedMap<LoggedRequest>(maxOpenRequests)
  return (line) => {
    const entry = parse(line)
    if (!entry) return line
    const { reqId, req, res, responseTime } = entry as RequestEntry
    if (typeof reqId !== 'string') return formatEntry(entry)
    if (entry.msg === 'incoming request' && req) {
      requests.set(reqId, req)
      return ''
    }
    const request = requests.get(reqId)
    if (entry.msg !== 'request completed' || !request || !res) return formatEntry(entry)
    requests.delete(reqId)
    return formatRequest(entry, request, res.statusCode, responseTime ?? 0)
  }
}

interface LoggedRequest {
  method: string
  url: string
}

/** The members that Fastify adds to the lines about a request. */
interface RequestEntry extends LogEntry {
  reqId?: unknown
  req?: LoggedRequest
  res?: { statusCode: number }
  responseTime?: number
}

function formatRequest({ time }: LogEntry, { method, url }: LoggedRequest, status: number, durationMs: number): string {
  if (status < 400 && /^\/health\/\w+$/.test(url)) return ''
  const style = status >= 500 ? 'red' : status >= 400 ? 'yellow' : 'green'
  const answer = `${styleText(style, String(status))} ${styleText('gray', `${Math.round(durationMs)} ms`)}`
  return `${formatTime(time)} ${printable(`${method} ${url}`)} ${answer}\n`
}

const formatTime = (time: number) => styleText('gray', new Date(time).toISOString().slice(11, 23))

function formatEntry({ level, time, msg, err: logged, pid: _, hostname: __, ...members }: LogEntry): string {
  const err = isError(logged) ? logged : undefined
  if (!err && logged !== undefined) members.err = logged
  const [name, style] = levels[level] ?? [`${level}`, 'white']
  const rest = Object.entries(members).map(([key, value]) =>
    styleText('gray', ` ${printable(key)}=${formatValue(value)}`),
  )
  const message = `${styleText(style, name.padEnd(5))} ${printable(String(msg ?? ''))}`
  return `${formatTime(time)} ${message}${rest.join('')}\n${formatStack(err)}`
}

interface LogEntry {
  level: number
  time: number
  msg?: string
  err?: unknown
  [member: string]: unknown
}

const isError = (value: unknown): value is SerializedError =>
  typeof value === 'object' && value !== null && ('stack' in value || 'message' in value)

function parse(line: string): LogEntry | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const entry = JSON.parse(line)
    // An app may log members with these names.
    return typeof entry.level === 'number' && isTime(entry.time) ? entry : undefined
  } catch {
    return undefined
  }
}

const isTime = (value: unknown) => typeof value === 'number' && !Number.isNaN(new Date(value).getTime())

const formatValue = (value: unknown) =>
  typeof value === 'string' && /^[\w.:/@+-]+$/.test(value) ? value : printable(`${JSON.stringify(value)}`)

function formatStack(error: SerializedError | undefined, prefix = ''): string {
  if (!error) return ''
  const text = error.stack || `${error.type ?? 'Error'}: ${error.message}`
  const lines = `${prefix}${text}`.split('\n').map((line) => `    ${printable(line)}\n`)
  return lines.join('') + formatStack(error.cause as SerializedError | undefined, 'Caused by: ')
}
