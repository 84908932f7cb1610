// Sends server-sent events with bare Node.js and without a database. It keeps only the response of each stream.
import { createServer, type ServerResponse } from 'node:http'

const streams = new Set<ServerResponse>()
const server = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' }).write('retry: 3000\n\n')
  streams.add(response)
  response.on('error', () => {})
  response.on('close', () => streams.delete(response))
})

process.on('message', () => {
  const data = { id: '1', status: 'succeeded', endedAt: new Date().toISOString(), padding: 'x'.repeat(700) }
  const frame = `event: status\nid: 2\ndata: ${JSON.stringify(data)}\n\n`
  for (const response of streams) response.write(frame)
})

server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as { port: number }).port }))
