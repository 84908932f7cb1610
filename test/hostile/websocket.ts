import { randomBytes } from 'node:crypto'
import { RawConnection, request } from './http.ts'
import type { Attack } from './phase.ts'

export const upgradeHeaders = {
  Upgrade: 'websocket',
  Connection: 'Upgrade',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Protocol': 'cloudevents.json',
}

export const opcodes = { continuation: 0, text: 1, binary: 2, reserved: 3, close: 8, ping: 9, pong: 10 } as const

interface FrameOptions {
  opcode?: number
  isFinal?: boolean
  /** Clients must mask their frames. */
  isMasked?: boolean
  /** The three reserved bits. */
  reserved?: number
}

/** Makes a frame (RFC 6455, section 5.2), which need not be a valid one. */
export function frame(
  payload: string | Buffer,
  { opcode = opcodes.text, isFinal = true, isMasked = true, reserved = 0 }: FrameOptions = {},
): Buffer {
  const data = Buffer.from(payload)
  const first = (isFinal ? 0x80 : 0) | (reserved << 4) | opcode
  const maskBit = isMasked ? 0x80 : 0
  const extended = Buffer.alloc(data.length < 126 ? 0 : 2)
  if (extended.length > 0) extended.writeUInt16BE(data.length)
  const head = Buffer.from([first, maskBit | (data.length < 126 ? data.length : 126)])
  if (!isMasked) return Buffer.concat([head, extended, data])
  const mask = randomBytes(4)
  const masked = data.map((byte, index) => byte ^ (mask[index % 4] as number))
  return Buffer.concat([head, extended, mask, masked])
}

/** Opens a WebSocket. What the API sends on it afterwards is not parsed. Resolves to undefined if it is refused. */
export async function openSocket(attack: Attack, { isReading = true } = {}): Promise<RawConnection | undefined> {
  const connection = new RawConnection(attack.options.port)
  connection.send(request('GET', '/events', { headers: upgradeHeaders }))
  attack.report.sent += 1
  const response = await connection.next(30_000)
  if (!response) attack.find('A WebSocket was neither opened nor refused')
  else attack.record(response, 'GET /events with an upgrade')
  if (response?.status !== 101) {
    connection.close()
    return undefined
  }
  connection.socket.removeAllListeners('data')
  if (isReading) connection.socket.resume()
  else connection.socket.pause()
  return connection
}
