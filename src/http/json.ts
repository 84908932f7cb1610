import type { FastifyInstance } from 'fastify'
import { ProblemError } from '../errors.ts'

/** Deeper than any honest body, and shallow enough for everything that walks it recursively. */
const deepest = 100

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Parses JSON bodies strictly: UTF-8 only, no poisoned prototypes, and nothing that passes a JSON schema and then fails
 * in Postgres or comes back changed: `\u0000`, lone surrogates, numbers beyond a double (PostgreSQL manual, 8.14).
 */
export function parseJsonStrictly(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  // Fastify's own would let text/plain through.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    // Some clients name the type of a body whether or not there is one.
    if (request.method === 'DELETE' && body.length === 0) return done(null, undefined)
    let text: string
    try {
      text = utf8.decode(body as Buffer)
    } catch (error) {
      done(new ProblemError('malformed-json', 'The body is not UTF-8', { cause: error }))
      return
    }
    parse(request, text, (error, value) => {
      const violation = error ? undefined : findUnstorable(value)
      done(error ?? (violation ? new ProblemError('invalid-body', undefined, { details: [violation] }) : null), value)
    })
  })
}

interface Unstorable {
  pointer: string
  keyword: 'storable'
  message: string
}

interface Node {
  value: unknown
  name?: string
  parent?: Node
  depth: number
}

/** The first value in a document that Postgres could not give back as it is; walks without recursion. */
export function findUnstorable(document: unknown): Unstorable | undefined {
  const ahead: Node[] = [{ value: document, depth: 0 }]
  for (let node = ahead.pop(); node; node = ahead.pop()) {
    const { value, depth } = node
    const message = unstorable(value) ?? (depth > deepest ? `must not be nested deeper than ${deepest}` : undefined)
    if (message) return { pointer: pointerTo(node), keyword: 'storable', message }
    if (typeof value !== 'object' || value === null) continue
    for (const [name, member] of Object.entries(value)) {
      const wrong = unstorable(name)
      if (wrong) return { pointer: pointerTo(node), keyword: 'storable', message: `has a member whose name ${wrong}` }
      ahead.push({ value: member, name, parent: node, depth: depth + 1 })
    }
  }
  return undefined
}

// RFC 6901, section 3.
function pointerTo({ name, parent }: Node): string {
  if (!parent || name === undefined) return ''
  return `${pointerTo(parent)}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`
}

function unstorable(value: unknown): string | undefined {
  if (typeof value === 'number' && !Number.isFinite(value)) return 'must be a number that fits a double'
  if (typeof value !== 'string') return undefined
  if (value.includes('\0')) return 'must not contain U+0000'
  if (!value.isWellFormed()) return 'must not contain lone surrogates'
  return undefined
}
