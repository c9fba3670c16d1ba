-- name: find_role
SELECT 1 FROM pg_roles WHERE rolname = 'aihub';

-- name: create_role
CREATE ROLE aihub LOGIN;

-- name: find_database
SELECT 1 FROM pg_database WHERE datname = 'aihub';

-- name: create_database
CREATE DATABASE aihub OWNER aihub;

-- name: create_vector
CREATE EXTENSION IF NOT EXISTS vector;
