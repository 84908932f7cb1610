import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { matchesWeakly } from './etag.ts'

/** A document that is serialised once and sent often. */
export interface Document {
  mediaType: string
  body: Buffer
  etag: string
}

export function createDocument(mediaType: string, text: string): Document {
  const body = Buffer.from(text)
  return { mediaType, body, etag: `"${createHash('sha256').update(body).digest('base64url')}"` }
}

/** Answers with a document, or with 304 if the client has it already. */
export function sendDocument(request: FastifyRequest, reply: FastifyReply, document: Document): FastifyReply {
  const { mediaType, body, etag } = document
  reply.headers({ etag, 'cache-control': 'no-cache' })
  const known = request.headers['if-none-match']
  if (known !== undefined && matchesWeakly(known, etag)) return reply.code(304).send()
  return reply.type(mediaType).send(body)
}
