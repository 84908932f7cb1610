import type { FastifyRequest } from 'fastify'

/** Makes the function that says which origin the links of an answer have. */
export function originFrom(publicUrl: string | undefined): (request: FastifyRequest) => string {
  return (request) => publicUrl ?? `${request.protocol}://${request.host}`
}
