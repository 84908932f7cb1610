import type { Operation } from '../operation.ts'
import type { Schedule } from '../schedule.ts'

/** The operations and schedules that the configuration or the handlers define, by name. */
interface Definitions {
  operations: ReadonlyMap<string, Operation>
  schedules: ReadonlyMap<string, Schedule>
}

const advice = 'Pass the same module to defineConfig and defineHandlers, and give each of its operations a handler.'

/** Finds what only one of both defines, or both define differently. Returns undefined when they agree. */
export function findDisagreement(config: Definitions, handlers: Definitions): string | undefined {
  const parts = [
    ...describe('operation', config.operations, handlers.operations),
    ...describe('schedule', config.schedules, handlers.schedules),
  ]
  return parts.length > 0 ? `${parts.join('; ')}. ${advice}` : undefined
}

function describe<T extends object>(
  kind: string,
  config: ReadonlyMap<string, T>,
  handlers: ReadonlyMap<string, T>,
): string[] {
  const missing = [...config.keys()].filter((name) => !handlers.has(name))
  const surplus = [...handlers.keys()].filter((name) => !config.has(name))
  const different = [...config].flatMap(([name, one]) => {
    const other = handlers.get(name)
    const members = other === undefined ? [] : differentMembers(one, other)
    return members.length > 0 ? [`the ${kind} ${name} is defined differently in both (${members.join(', ')})`] : []
  })
  return [
    ...list(kind, missing, 'only in the configuration'),
    ...list(kind, surplus, 'only in the handlers'),
    ...different,
  ]
}

/** Compares by value, because the configuration and the handlers may import two copies of a module. */
function differentMembers<T extends object>(one: T, other: T): string[] {
  if (one === other) return []
  const names = new Set([...Object.keys(one), ...Object.keys(other)]) as Set<keyof T & string>
  return [...names].filter((name) => toText(one[name]) !== toText(other[name]))
}

const toText = (value: unknown) =>
  JSON.stringify(value, (_, part) => {
    // Two copies of a function cannot be compared.
    if (typeof part === 'function') return 'function'
    return typeof part === 'bigint' ? String(part) : part
  })

function list(kind: string, names: readonly string[], where: string): string[] {
  if (names.length === 0) return []
  return [`the ${kind}${names.length > 1 ? 's' : ''} ${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} ${where}`]
}
