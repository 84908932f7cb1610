import { createSocket } from 'node:dgram'
import { type LookupAddress, type LookupAllOptions, Resolver } from 'node:dns'
import { once } from 'node:events'
import { isIPv4, type LookupFunction } from 'node:net'
import type { Test } from 'tap'

/** What the server answers for a name. */
export interface DnsAnswer {
  /** The name that this name is an alias of (CNAME). The answer contains the records of that name too. */
  alias?: string
  /** Addresses of both families. None: the name exists, but has no address. */
  addresses?: readonly string[]
  /** How long resolvers may keep the answer. Default: 0. */
  ttlSeconds?: number
  /** The server answers when this promise has resolved. */
  after?: Promise<unknown>
}

/** A DNS server on 127.0.0.1. */
export interface DnsServer {
  /** The answers for each name, one for each lookup. Later lookups get the last one again. Other names do not exist. */
  answers: Record<string, readonly DnsAnswer[]>
  /** Counts the lookups of a name. */
  lookups(name: string): number
  /** A `dns.lookup` that asks this server, over UDP. */
  lookup: LookupFunction
}

const types = { a: 1, cname: 5, aaaa: 28 }
/** An authoritative response that offers recursion. */
const responseFlags = 0x8580
const nameError = 3

/** Starts a DNS server that answers over UDP (RFC 1035). */
export async function startDnsServer(t: Test): Promise<DnsServer> {
  const socket = createSocket('udp4')
  const answers: DnsServer['answers'] = {}
  const counts = new Map<string, number>()
  const next = (name: string, type: number): DnsAnswer | undefined => {
    const query = `${name} ${type}`
    const count = counts.get(query) ?? 0
    counts.set(query, count + 1)
    return answers[name]?.[Math.min(count, answers[name].length - 1)]
  }
  const recordsOf = (name: string, type: number, { alias, addresses = [], ttlSeconds = 0 }: DnsAnswer): Buffer[] => {
    const header = (kind: number, data: Buffer) => encodeRecord(name, kind, ttlSeconds, data)
    if (alias !== undefined) {
      return [header(types.cname, encodeName(alias)), ...recordsOf(alias, type, next(alias, type) ?? {})]
    }
    const ofType = addresses.filter((address) => (isIPv4(address) ? types.a : types.aaaa) === type)
    return ofType.map((address) => header(type, encodeAddress(address)))
  }
  socket.on('message', async (query, { port, address }) => {
    const { name, type, end } = readQuestion(query)
    const answer = next(name, type)
    await answer?.after
    const records = answer ? recordsOf(name, type, answer) : []
    const response = Buffer.from(query.subarray(0, end))
    response.writeUInt16BE(answer ? responseFlags : responseFlags | nameError, 2)
    response.writeUInt16BE(records.length, 6)
    // Without the additional records of the query.
    response.writeUInt32BE(0, 8)
    socket.send(Buffer.concat([response, ...records]), port, address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  return {
    answers,
    lookups: (name) => counts.get(`${name} ${types.a}`) ?? 0,
    lookup: lookupBy(`127.0.0.1:${socket.address().port}`),
  }
}

/**
 * Makes a function like `dns.lookup`, which cannot be told which server to ask. Every failure is ENOTFOUND, as most are
 * there.
 */
function lookupBy(server: string): LookupFunction {
  const resolver = new Resolver({ tries: 1 })
  resolver.setServers([server])
  const resolve = (hostname: string, family: 4 | 6) =>
    new Promise<LookupAddress[]>((done) =>
      resolver[family === 4 ? 'resolve4' : 'resolve6'](hostname, (_error, addresses = []) =>
        done(addresses.map((address) => ({ address, family }))),
      ),
    )
  return async (hostname, options, done) => {
    const addresses = (await Promise.all([resolve(hostname, 4), resolve(hostname, 6)])).flat()
    const [first] = addresses
    if (!first) return done(Object.assign(new Error(`No address of ${hostname}`), { code: 'ENOTFOUND' }), [])
    if ((options as LookupAllOptions).all) done(null, addresses)
    else done(null, first.address, first.family)
  }
}

function readQuestion(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = []
  let position = 12
  for (let length = query.readUInt8(position); length > 0; length = query.readUInt8(position)) {
    labels.push(query.toString('latin1', position + 1, position + 1 + length))
    position += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(position + 1), end: position + 5 }
}

const encodeName = (name: string) =>
  Buffer.concat([
    ...name.split('.').map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label, 'latin1')])),
    Buffer.of(0),
  ])

function encodeRecord(name: string, type: number, ttlSeconds: number, data: Buffer): Buffer {
  const fields = Buffer.alloc(10)
  fields.writeUInt16BE(type, 0)
  fields.writeUInt16BE(1, 2) // The class IN.
  fields.writeUInt32BE(ttlSeconds, 4)
  fields.writeUInt16BE(data.length, 8)
  return Buffer.concat([encodeName(name), fields, data])
}

function encodeAddress(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number))
  // The URL parser writes an embedded IPv4 address as two groups.
  const [head = '', tail = ''] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const [left, right] = [head, tail].map((part) => (part ? part.split(':') : [])) as [string[], string[]]
  const groups = [...left, ...Array(8 - left.length - right.length).fill('0'), ...right]
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex')
}
