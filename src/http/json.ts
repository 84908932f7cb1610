import type { FastifyInstance } from 'fastify'
import { ProblemError } from '../errors.ts'

/** Deeper than any honest body, and shallow enough for everything that walks it recursively. */
const deepest = 100

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** How many violations are listed, at most. */
const mostListed = 100

/**
 * Parses JSON bodies strictly: UTF-8 only, no poisoned prototypes, and nothing that passes a JSON schema and then fails
 * in Postgres or becomes another value: `\u0000`, lone surrogates, numbers beyond the range of a double (PostgreSQL
 * manual, 8.14). A number with more digits than a double has is rounded, as RFC 8259, section 6, says.
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
      const details = error ? [] : findUnstorable(value)
      done(error ?? (details.length > 0 ? new ProblemError('invalid-body', undefined, { details }) : null), value)
    })
  })
}

/** For routes whose bodies are of no interest, and neither is their type. */
export function ignoreBodies(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
  scope.addHook('onRequest', async ({ headers }) => {
    delete headers['content-type']
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

/** The values in a document that Postgres could not give back as they are, the first 100; walks without recursion. */
export function findUnstorable(document: unknown): Unstorable[] {
  const found: Unstorable[] = []
  const report = (node: Node, message: string) => found.push({ pointer: pointerTo(node), keyword: 'storable', message })
  const ahead: Node[] = [{ value: document, depth: 0 }]
  for (let node = ahead.pop(); node && found.length < mostListed; node = ahead.pop()) {
    const { value, depth } = node
    const message = unstorable(value) ?? (depth > deepest ? `must not be nested deeper than ${deepest}` : undefined)
    if (message) report(node, message)
    if (message || typeof value !== 'object' || value === null) continue
    const members = Object.entries(value)
    const wrong = members.map(([name]) => unstorable(name)).find(Boolean)
    if (wrong) report(node, `has a member whose name ${wrong}`)
    for (const [name, member] of members.toReversed())
      ahead.push({ value: member, name, parent: node, depth: depth + 1 })
  }
  return found
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
