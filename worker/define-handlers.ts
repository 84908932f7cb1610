import { collectOperations } from '../src/collect-operations.ts'
import type { Operation } from '../src/operation.ts'
import { atDefinition, rememberSite } from '../src/primitives/definition-site.ts'
import { collectSchedules } from '../src/schedule.ts'
import { assertHandler } from './assert-handler.ts'
import type { Dependencies, Handler, Handlers, HandlersFor } from './handlers.ts'

/**
 * Defines the handlers of operations. The handlers module exports the result as its default. If an operation has no
 * handler, or a handler has no operation, TypeScript reports an error and the worker does not start.
 *
 * @param record a module namespace or any other record with the operations and schedules; other values in it are
 *   ignored
 * @param handlers one handler for each operation, or a function that creates these handlers from {@link Dependencies}
 * @throws TypeError when the record has no operations, or has two operations with the same name
 */
export function defineHandlers<const Record extends object>(
  record: Record,
  handlers: NoInfer<
    HandlersFor<Record> | ((dependencies: Dependencies) => HandlersFor<Record> | Promise<HandlersFor<Record>>)
  >,
): Handlers {
  const operations = collectOperations(record)
  const site = {}
  rememberSite(site)
  return {
    operations,
    schedules: collectSchedules(record, operations),
    async load(dependencies) {
      const created: unknown = typeof handlers === 'function' ? await handlers(dependencies) : handlers
      try {
        return assertHandlers(operations, created)
      } catch (error) {
        throw atDefinition(error as TypeError, site)
      }
    },
  }
}

function assertHandlers(operations: ReadonlyMap<string, Operation>, created: unknown): Map<string, Handler> {
  if (typeof created !== 'object' || created === null) {
    throw new TypeError(
      'defineHandlers requires a record with a handler for each operation, or a function that returns it',
    )
  }
  const byName = new Map<string, Handler>(Object.entries(created))
  const missing = [...operations.keys()].filter((name) => !byName.has(name))
  const unknown = [...byName.keys()].filter((name) => !operations.has(name))
  if (missing.length > 0) {
    const surplus = unknown.length > 0 ? `; there is a handler for ${unknown.join(', ')}, which is no operation` : ''
    throw new TypeError(`No handler is defined for ${missing.join(', ')}${surplus}`)
  }
  if (unknown.length > 0) throw new TypeError(`No operation is defined for the handler of ${unknown.join(', ')}`)
  for (const [name, handler] of byName) assertHandler(name, handler)
  return byName
}
