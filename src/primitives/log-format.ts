import { styleText } from 'node:util'
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

/**
 * Makes a line of a log readable for people: the time, the level, the message, the other members and the stack. Returns
 * a line that is no JSON of pino unchanged.
 */
export function formatLogLine(line: string): string {
  const entry = parse(line)
  if (!entry) return line
  const { level, time, msg, err: logged, pid: _, hostname: __, ...members } = entry
  const err = isError(logged) ? logged : undefined
  if (!err && logged !== undefined) members.err = logged
  const [name, style] = levels[level] ?? [`${level}`, 'white']
  const at = styleText('gray', new Date(time).toISOString().slice(11, 23))
  const rest = Object.entries(members).map(([key, value]) =>
    styleText('gray', ` ${printable(key)}=${formatValue(value)}`),
  )
  return `${at} ${styleText(style, name.padEnd(5))} ${printable(String(msg ?? ''))}${rest.join('')}\n${formatStack(err)}`
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
