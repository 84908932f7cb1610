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

function describe<T>(kind: string, config: ReadonlyMap<string, T>, handlers: ReadonlyMap<string, T>): string[] {
  const missing = [...config.keys()].filter((name) => !handlers.has(name))
  const surplus = [...handlers.keys()].filter((name) => !config.has(name))
  const different = [...config].flatMap(([name, one]) => {
    const other = handlers.get(name)
    return other === undefined || one === other || JSON.stringify(one) === JSON.stringify(other) ? [] : [name]
  })
  return [
    ...list(kind, missing, 'only in the configuration'),
    ...list(kind, surplus, 'only in the handlers'),
    ...list(kind, different, 'defined differently in both'),
  ]
}

function list(kind: string, names: readonly string[], where: string): string[] {
  if (names.length === 0) return []
  return [`the ${kind}${names.length > 1 ? 's' : ''} ${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} ${where}`]
}
